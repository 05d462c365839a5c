"""An OpenAI-style API over the models that embed or write text (OpenAI's API reference, v1).

`answer` is the ASGI application for what is below /v1.
"""

from .door import answer

__all__ = ["answer"]
