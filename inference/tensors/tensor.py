"""A tensor, its specification, and the request and signature that are made of them."""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tensors.datatypes import FLOATS, INTEGERS, STORAGE, Datatype, bfloat16_bits, bfloat16_values


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """`shape` has -1 for each dynamic dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives. `batched`: leading dynamic dimensions of the inputs are one and the same."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = True


@dataclass(frozen=True, slots=True)
class Tensor:
    """`content`: raw little-endian bytes, row-major; BYTES elements each behind a 4-byte little-endian length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    content: bytes

    def base64(self) -> str:
        return binascii.b2a_base64(self.content, newline=False).decode()

    def data(self) -> Any:
        """The elements as JSON, nested by shape; floats are the shortest decimals that read back as the same element.

        None where JSON has no such value (NaN, infinity, BYTES that are not UTF-8): `base64` still tells.
        """
        elements = self._elements()
        return None if elements is None else elements.reshape(self.shape).tolist()

    def total(self) -> int | None:
        """The sum of its elements; None unless they are integers."""
        if self.datatype not in INTEGERS:
            return None
        elements: list[int] = np.frombuffer(self.content, dtype=STORAGE[self.datatype]).tolist()
        return sum(elements)

    def _elements(self) -> NDArray[Any] | None:
        if self.datatype is Datatype.BYTES:
            return _texts(self.content)
        values: NDArray[Any] = np.frombuffer(self.content, dtype=STORAGE[self.datatype])
        if self.datatype is Datatype.BF16:
            values = bfloat16_values(values)
        if self.datatype not in FLOATS:
            return values
        if not np.isfinite(values).all():
            return None
        if self.datatype is Datatype.FP64:
            return values
        if self.datatype is Datatype.BF16:
            return _bfloat16_decimals(values)
        return values.astype(np.str_).astype(np.float64)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """`outputs`: the outputs asked for, in that order; None for all. `parameters`: scalars that go on to the model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] | None = None
    parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """Of all inputs together; a string is one."""
        return sum(prod(tensor.shape) for tensor in self.inputs)


def strings(content: bytes) -> list[bytes]:
    """The elements of a BYTES tensor, each without its length."""
    elements = []
    position = 0
    while position < len(content):
        end = position + 4 + int.from_bytes(content[position : position + 4], "little")
        elements.append(content[position + 4 : end])
        position = end
    return elements


def _texts(content: bytes) -> NDArray[Any] | None:
    try:
        texts = [element.decode() for element in strings(content)]
    except UnicodeDecodeError:
        return None
    elements = np.empty(len(texts), dtype=np.object_)
    elements[:] = texts
    return elements


def _bfloat16_decimals(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Four digits tell any two bfloat16 apart; fewer where fewer are enough."""
    bits = bfloat16_bits(values)
    decimals = np.empty(values.shape, dtype=np.float64)
    for digits in (4, 3, 2, 1):
        shorter = np.array([float(f"{value:.{digits}g}") for value in values.tolist()], dtype=np.float64)
        same = bfloat16_bits(shorter.astype(np.float32)) == bits
        decimals[same] = shorter[same]
    return decimals
