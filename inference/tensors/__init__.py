"""Tensors on their way in and out: requests, answers, and their check against a model's signature.

Names and datatypes are those of the Open Inference Protocol (v2). Contents are raw bytes throughout: little-endian,
row-major, BYTES elements each behind a 4-byte little-endian length.
"""

from inference.tensors.datatypes import MAX_RANK, MAX_TENSOR_BYTES, Datatype
from inference.tensors.identity import digest, pack, packed_digest, unpack
from inference.tensors.reading import check_content, parse, parse_shape
from inference.tensors.request import RawTensor, check_request, read_request
from inference.tensors.tensor import InferenceRequest, Signature, Tensor, TensorSpec

__all__ = [
    "MAX_RANK",
    "MAX_TENSOR_BYTES",
    "Datatype",
    "InferenceRequest",
    "RawTensor",
    "Signature",
    "Tensor",
    "TensorSpec",
    "check_content",
    "check_request",
    "digest",
    "pack",
    "packed_digest",
    "parse",
    "parse_shape",
    "read_request",
    "unpack",
]
