"""Two versions' answers are equal, close, different, or of another form."""

import math
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from inference.comparison import Likeness, compare
from inference.tensors import Datatype, Tensor


def fp32(name: str, *values: float, shape: Sequence[int] | None = None) -> Tensor:
    return Tensor(name, Datatype.FP32, tuple(shape or [len(values)]), np.array(values, "<f4").tobytes())


def text(name: str, value: bytes) -> Tensor:
    return Tensor(name, Datatype.BYTES, (1,), len(value).to_bytes(4, "little") + value)


@pytest.mark.parametrize(
    ("one", "other", "likeness", "difference"),
    [
        ([fp32("y", 1, 2)], [fp32("y", 1, 2)], Likeness.EQUAL, 0.0),
        ([], [], Likeness.EQUAL, 0.0),
        ([fp32("y", math.nan)], [fp32("y", math.nan)], Likeness.EQUAL, 0.0),
        ([fp32("y", 1000)], [fp32("y", 1000.5)], Likeness.CLOSE, 0.5),
        ([fp32("y", 0.0, 1)], [fp32("y", -0.0, 1)], Likeness.CLOSE, 0.0),
        ([fp32("y", 1, 2)], [fp32("y", 1, 4)], Likeness.DIFFERENT, 2.0),
        ([fp32("y", math.inf, 1)], [fp32("y", math.inf, 3)], Likeness.DIFFERENT, 2.0),
        ([fp32("y", math.inf)], [fp32("y", -math.inf)], Likeness.DIFFERENT, sys.float_info.max),
        ([fp32("y", math.nan)], [fp32("y", 1)], Likeness.DIFFERENT, sys.float_info.max),
        ([fp32("y", 1)], [fp32("z", 1)], Likeness.MISMATCHED, None),
        ([fp32("y", 1)], [fp32("y", 1), fp32("z", 1)], Likeness.MISMATCHED, None),
        ([fp32("y", 1, 2)], [fp32("y", 1, 2, shape=[1, 2])], Likeness.MISMATCHED, None),
        ([text("y", b"a")], [text("y", b"a")], Likeness.EQUAL, 0.0),
        ([text("y", b"a")], [text("y", b"b")], Likeness.DIFFERENT, None),
        ([text("y", b"a"), fp32("p", 1)], [text("y", b"b"), fp32("p", 1.5)], Likeness.DIFFERENT, 0.5),
    ],
)
def test_answers_are_held_against_each_other(
    one: list[Tensor], other: list[Tensor], likeness: Likeness, difference: float | None
) -> None:
    compared = compare(one, other)

    assert (compared.likeness, compared.difference) == (likeness, difference)


def test_the_order_of_outputs_does_not_matter() -> None:
    assert compare([fp32("a", 1), fp32("b", 2)], [fp32("b", 2), fp32("a", 1)]).likeness is Likeness.EQUAL


def test_bfloat16_is_read_as_the_numbers_that_it_is() -> None:
    one, two = (Tensor("y", Datatype.BF16, (1,), bits.to_bytes(2, "little")) for bits in (0x3F80, 0x4000))

    assert compare([one], [two]).difference == 1.0
