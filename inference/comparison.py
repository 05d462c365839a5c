"""Two versions' answers to the same request, held against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tensors import Datatype, Tensor
from .tensors.datatypes import STORAGE, bfloat16_values

# As ONNX's own backend tests compare (onnx.backend.test.runner).
RELATIVE, ABSOLUTE = 1e-3, 1e-7


class Likeness(Enum):
    EQUAL = "equal"
    CLOSE = "close"
    DIFFERENT = "different"
    # Other names, datatypes or shapes.
    MISMATCHED = "mismatched"


@dataclass(frozen=True, slots=True)
class Compared:
    """`difference`: the largest one between two elements; None where there are no numbers to subtract."""

    likeness: Likeness
    difference: float | None


def compare(ones: Sequence[Tensor], others: Sequence[Tensor]) -> Compared:
    """NaN is NaN, and infinity is infinity, whatever IEEE 754 says."""
    if _described(ones) != _described(others):
        return Compared(Likeness.MISMATCHED, None)
    by_name = {tensor.name: tensor for tensor in others}
    pairs = [(tensor, by_name[tensor.name]) for tensor in ones if tensor.content != by_name[tensor.name].content]
    if not pairs:
        return Compared(Likeness.EQUAL, 0.0)
    numbers = [
        (_numbers(one), _numbers(other)) for one, other in pairs if one.datatype not in (Datatype.BYTES, Datatype.BOOL)
    ]
    differences = [_difference(one, other) for one, other in numbers]
    close = len(numbers) == len(pairs) and all(
        np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True) for one, other in numbers
    )
    return Compared(Likeness.CLOSE if close else Likeness.DIFFERENT, max(differences, default=None))


def _described(tensors: Sequence[Tensor]) -> set[tuple[Any, ...]]:
    return {(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors}


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    values = np.frombuffer(tensor.content, dtype=STORAGE[tensor.datatype])
    return (bfloat16_values(values) if tensor.datatype is Datatype.BF16 else values).astype(np.float64)


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    # Where one of the two is no number, or infinite, they are as far apart as numbers can be: JSON knows no infinity.
    return float(np.nan_to_num(np.where(same, 0.0, apart), nan=np.finfo(np.float64).max).max(initial=0.0))
