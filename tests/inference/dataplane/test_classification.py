"""The classification extension, in strings as Triton writes them (tests/doors compares with its own)."""

import numpy as np
import pytest

from inference.dataplane.classification import check_rankable, classified
from inference.tensors import Datatype, Tensor
from inference.tensors.datatypes import STORAGE
from marketplace.errors import ValidationProblem


def ranked(datatype: Datatype, values: list[list[float]], most: int, labels: tuple[str, ...] = ()) -> object:
    array = np.array(values, STORAGE[datatype])
    answer = classified(Tensor("x", datatype, array.shape, array.tobytes()), most, labels)
    assert (answer.name, answer.datatype) == ("x", Datatype.BYTES)
    assert answer.shape == (len(answer.data()),)
    return answer.data()


def test_the_largest_values_come_first_and_equal_ones_in_their_order() -> None:
    assert ranked(Datatype.FP32, [[1, 5, 3], [3, 2, 2]], 4) == ["5.000000:1", "3.000000:2", "3.000000:3", "2.000000:4"]


def test_classes_have_the_names_that_their_publisher_gave_them() -> None:
    assert ranked(Datatype.FP64, [[0.1, 0.7, 0.2]], 2, ("cat", "dog")) == ["0.700000:1:dog", "0.200000:2"]


def test_integers_are_written_without_decimals() -> None:
    assert ranked(Datatype.UINT64, [[2**64 - 1, 0]], 2) == [f"{2**64 - 1}:0", "0:1"]
    assert ranked(Datatype.INT8, [[-128, 127]], 9) == ["127:1", "-128:0"]


def test_nothing_has_no_classes() -> None:
    empty = classified(Tensor("x", Datatype.FP32, (0, 3), b""), 5, ())

    assert (empty.shape, empty.content) == ((0,), b"")


@pytest.mark.parametrize("datatype", [Datatype.BOOL, Datatype.BYTES, Datatype.FP16, Datatype.BF16])
def test_what_triton_does_not_rank_is_refused(datatype: Datatype) -> None:
    with pytest.raises(ValidationProblem, match=f"unsupported type '{datatype}'"):
        check_rankable("x", datatype)
