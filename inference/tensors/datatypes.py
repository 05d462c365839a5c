"""The element types of the Open Inference Protocol (v2): their sizes, ranges and numpy forms."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MAX_RANK = 16
MAX_TENSOR_BYTES = 64 * 1024 * 1024


class Datatype(StrEnum):
    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"

    @property
    def size(self) -> int | None:
        """Bytes of one element; None for BYTES, whose elements each say their own length."""
        return None if self is Datatype.BYTES else STORAGE[self].itemsize


# What the bytes of an element are read as. numpy has no bfloat16: it is kept as the 16 bits that it is.
STORAGE: dict[Datatype, np.dtype[np.generic]] = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("<u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("<i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BF16: np.dtype("<u2"),
}

# The same to the struct module, behind "<". It knows no bfloat16.
FORMATS: dict[Datatype, str] = {
    Datatype.BOOL: "?",
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP16: "e",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}

FLOATS = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.BF16})
INTEGERS = frozenset(STORAGE) - FLOATS - {Datatype.BOOL}


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 -> bfloat16, rounded to the nearest, ties to even; past the largest bfloat16 it is infinity.

    Of NaN, the quiet one.
    """
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bfloat16_values(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 -> float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
