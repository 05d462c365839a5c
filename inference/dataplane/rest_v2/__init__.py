"""The Open Inference Protocol (v2) over HTTP with Triton's extensions: classification, binary tensor data, parameters,
statistics, model configuration, and of the model repository its index.

Answers, statuses and messages are Triton's wherever it has them, except that what is wrong with a request is never the
server's fault (Triton says 500 of JSON that it cannot read), and that FP16 and BF16 travel as JSON, too.
"""

from .app import answer

__all__ = ["answer"]
