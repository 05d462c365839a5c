"""Whether two requests are the same, and the form in which an answer is kept for the second of them."""

import hashlib
import json
from collections.abc import Sequence

from inference.tensors.datatypes import Datatype
from inference.tensors.tensor import InferenceRequest, Tensor

# Made once: `json.dumps` makes an encoder for each call that is not plain.
_sorted = json.JSONEncoder(sort_keys=True, allow_nan=False).encode


def digest(model: str, version: int | None, request: InferenceRequest, *, streamed: bool = False) -> bytes:
    """SHA-256 over what the request asks of which model; the order of its inputs and parameters says nothing.

    The contents count by their bytes, whether they came as `data` or as `base64`. `version` None: the live one.
    One that is `streamed` is another request.
    """
    inputs = sorted(request.inputs, key=lambda tensor: tensor.name)
    head = {
        "model": model,
        "version": version,
        "inputs": [_declaration(tensor) for tensor in inputs],
        "outputs": request.outputs,
        "parameters": dict(request.parameters),
    }
    if streamed:
        head["streamed"] = True
    # The head tells the length of each content, so that the bytes that follow can be split in one way only.
    hashed = hashlib.sha256(_sorted(head).encode() + b"\n")
    for tensor in inputs:
        hashed.update(tensor.content)
    return hashed.digest()


def pack(tensors: Sequence[Tensor]) -> bytes:
    """One JSON line of names, datatypes, shapes and lengths in bytes, and then the contents one after another."""
    head = json.dumps([_declaration(tensor) for tensor in tensors])
    return b"".join([head.encode(), b"\n", *(tensor.content for tensor in tensors)])


def packed_digest(tensors: Sequence[Tensor]) -> bytes:
    """SHA-256 of what `pack` makes of them, without making it."""
    hashed = hashlib.sha256(json.dumps([_declaration(tensor) for tensor in tensors]).encode() + b"\n")
    for tensor in tensors:
        hashed.update(tensor.content)
    return hashed.digest()


def unpack(packed: bytes) -> tuple[Tensor, ...]:
    """What `pack` packed."""
    position = packed.index(b"\n")
    tensors = []
    start = position + 1
    for name, datatype, shape, size in json.loads(packed[:position]):
        tensors.append(Tensor(name, Datatype(datatype), tuple(shape), packed[start : start + size]))
        start += size
    return tuple(tensors)


def _declaration(tensor: Tensor) -> tuple[str, str, tuple[int, ...], int]:
    return tensor.name, tensor.datatype.value, tensor.shape, len(tensor.content)
