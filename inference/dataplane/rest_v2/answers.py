"""An `infer` answer: JSON, and behind it the contents of those outputs that are to be binary."""

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from struct import unpack

import numpy as np

from inference.tensors import Datatype, Tensor
from inference.tensors.datatypes import FORMATS, STORAGE, bfloat16_values
from inference.tensors.tensor import strings
from marketplace.edge import Headers

# Status, headers and body.
Answer = tuple[int, Headers, bytes]

# Elements that are written in one go: a thread that writes many lets the others have their turn in between.
MANY = 16 * 1024

_JSON: Headers = [(b"content-type", b"application/json")]
_BINARY = (b"content-type", b"application/octet-stream")

_string = json.JSONEncoder().encode
_values = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def written(
    head: str, outputs: Iterable[Tensor], binary: Mapping[str, bool], *, binary_by_default: bool
) -> tuple[Headers, bytes]:
    """Headers and body. `head`: the members of the JSON object ahead of its outputs."""
    described: list[str] = []
    contents: list[bytes] = []
    for tensor in outputs:
        if binary.get(tensor.name, binary_by_default):
            told = f'"parameters":{{"binary_data_size":{len(tensor.content)}}}'
            contents.append(tensor.content)
        else:
            told = f'"data":{_data(tensor)}'
        described.append(
            f'{{"name":{_string(tensor.name)},"datatype":"{tensor.datatype.value}",'
            f'"shape":[{",".join(map(str, tensor.shape))}],{told}}}'
        )
    # Strings that are not UTF-8 leave as the bytes that they are, as Triton writes them.
    text = f'{{{head},"outputs":[{",".join(described)}]}}'.encode(errors="surrogateescape")
    if not any(contents):
        return _JSON, text
    length = (b"inference-header-content-length", str(len(text)).encode())
    return [_BINARY, length], b"".join(chain((text,), contents))


def head(request_id: str, model: str, version: int) -> str:
    told = f'"id":{_string(request_id)},' if request_id else ""
    return f'{told}"model_name":{_string(model)},"model_version":"{version}"'


def _data(tensor: Tensor) -> str:
    """The elements, flat: floats as the doubles that they are exactly, NaN and infinity by name, as Triton has them."""
    if tensor.datatype is Datatype.BYTES:
        elements = strings(tensor.content)
        pieces = (_texts(elements[start : start + MANY]) for start in range(0, len(elements), MANY))
    else:
        size = MANY * STORAGE[tensor.datatype].itemsize
        contents = (tensor.content[start : start + size] for start in range(0, len(tensor.content), size))
        pieces = (_numbers(content, tensor.datatype) for content in contents)
    return f"[{','.join(pieces)}]"


def _texts(elements: list[bytes]) -> str:
    return _values([text.decode(errors="surrogateescape") for text in elements])[1:-1]


def _numbers(content: bytes, datatype: Datatype) -> str:
    if datatype is Datatype.BF16:
        return _values(bfloat16_values(np.frombuffer(content, dtype=STORAGE[datatype])).tolist())[1:-1]
    elements = [*unpack(f"<{len(content) // STORAGE[datatype].itemsize}{FORMATS[datatype]}", content)]
    # What Python writes is JSON but for True, False, nan and inf; for few numbers the encoder takes several times as
    # long.
    written = repr(elements)
    plain = datatype is not Datatype.BOOL and "n" not in written
    return (written.replace(" ", "") if plain else _values(elements))[1:-1]
