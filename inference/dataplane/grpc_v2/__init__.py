"""The Open Inference Protocol over gRPC, with Triton's extensions: `inference.GRPCInferenceService`.

Whoever has a client for Triton points it here with a key in the metadata: `authorization: Bearer <key>`.
"""

from .server import Door, start

__all__ = ["Door", "start"]
