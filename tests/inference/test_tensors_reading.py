"""What a caller sends becomes raw bytes, or a ValidationProblem whose path names the field."""

import base64
import json
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inference.tensors import MAX_TENSOR_BYTES, Datatype, Tensor, parse
from inference.tensors.datatypes import FLOATS, INTEGERS, STORAGE
from marketplace.errors import ValidationProblem

PATH = "input.inputs.0"
DTYPES: dict[Datatype, Any] = {**STORAGE, Datatype.BF16: ml_dtypes.bfloat16}


def read(datatype: str, shape: object, data: object = None, base64: object = None, **options: Any) -> Tensor:
    return parse("x", Datatype(datatype), shape, data=data, base64=base64, path=PATH, **options)


def problem(
    datatype: str, shape: object, data: object = None, base64: object = None, **options: Any
) -> tuple[str, str]:
    """The path of the problem below the tensor's, and its message."""
    with pytest.raises(ValidationProblem) as caught:
        read(datatype, shape, data, base64, **options)
    assert caught.value.path is not None
    assert caught.value.path.startswith(PATH)
    caught.value.message.encode()  # whatever was sent, the message can be written
    return caught.value.path.removeprefix(PATH).removeprefix("."), caught.value.message


def nest(flat: list[Any], shape: list[int]) -> Any:
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape).tolist()


shapes = st.lists(st.integers(0, 3), max_size=4)


def count(shape: list[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


class TestRoundTrips:
    @given(st.data(), st.sampled_from(sorted(INTEGERS)), shapes, st.booleans())
    def test_integers_nested_or_flat_are_numpys_bytes(
        self, data: st.DataObject, datatype: Datatype, shape: list[int], nested: bool
    ) -> None:
        bounds = np.iinfo(STORAGE[datatype].name)
        size = count(shape)
        flat = data.draw(st.lists(st.integers(int(bounds.min), int(bounds.max)), min_size=size, max_size=size))

        tensor = read(datatype, shape, nest(flat, shape) if nested else flat)

        assert tensor.content == np.array(flat, dtype=STORAGE[datatype]).tobytes()
        assert tensor.data() == nest(flat, shape)

    @given(st.data(), st.sampled_from(sorted(FLOATS)), shapes)
    def test_floats_come_back_as_the_same_elements_through_json(
        self, data: st.DataObject, datatype: Datatype, shape: list[int]
    ) -> None:
        size = count(shape) * DTYPES[datatype].itemsize if datatype is not Datatype.BF16 else count(shape) * 2
        content = data.draw(st.binary(min_size=size, max_size=size))
        with np.errstate(invalid="ignore"):  # of a signalling NaN
            assume(np.isfinite(np.frombuffer(content, DTYPES[datatype]).astype(np.float64)).all())

        written = json.dumps(Tensor("x", datatype, tuple(shape), content).data(), allow_nan=False)

        assert read(datatype, shape, json.loads(written)).content == content

    @given(st.sampled_from(sorted(FLOATS)), st.floats(allow_nan=False, allow_infinity=False))
    def test_a_float_is_rounded_to_the_nearest_element(self, datatype: Datatype, number: float) -> None:
        with np.errstate(over="ignore"):
            # bfloat16 is reached by way of float32, as everywhere.
            source = np.float32(number) if datatype is Datatype.BF16 else np.float64(number)
            nearest = np.array([source]).astype(DTYPES[datatype])
        assume(np.isfinite(nearest.astype(np.float64)).all())

        assert read(datatype, [1], [number]).content == nearest.tobytes()

    @given(st.data(), shapes)
    def test_strings_are_utf8_behind_their_lengths(self, data: st.DataObject, shape: list[int]) -> None:
        size = count(shape)
        flat = data.draw(st.lists(st.text(), min_size=size, max_size=size))

        tensor = read("BYTES", shape, nest(flat, shape))

        assert tensor.content == b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in flat)
        assert tensor.data() == nest(flat, shape)

    @given(st.lists(st.booleans(), max_size=9))
    def test_booleans_are_a_byte_each(self, flat: list[bool]) -> None:
        tensor = read("BOOL", [len(flat)], flat)

        assert tensor.content == bytes(flat)
        assert tensor.data() == flat

    @given(st.data(), st.sampled_from(sorted(STORAGE)), shapes)
    def test_base64_is_taken_and_given_bit_for_bit(
        self, data: st.DataObject, datatype: Datatype, shape: list[int]
    ) -> None:
        size = count(shape) * STORAGE[datatype].itemsize
        content = data.draw(st.binary(min_size=size, max_size=size))
        if datatype is Datatype.BOOL:
            content = bytes(byte & 1 for byte in content)

        tensor = read(datatype, shape, base64=base64.b64encode(content).decode())

        assert tensor.content == content
        assert base64.b64decode(tensor.base64()) == content

    @given(st.lists(st.binary(max_size=9), max_size=9))
    def test_base64_carries_bytes_that_are_no_text(self, elements: list[bytes]) -> None:
        content = b"".join(struct.pack("<I", len(element)) + element for element in elements)

        assert read("BYTES", [len(elements)], base64=base64.b64encode(content).decode()).content == content


class TestWhatJsonShows:
    @pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
    def test_floats_are_the_shortest_decimals(self, datatype: str) -> None:
        assert read(datatype, [2, 2], [0.1, 1.5, -2, 100]).data() == [[0.1, 1.5], [-2.0, 100.0]]

    @pytest.mark.parametrize("content", [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f"])
    def test_nan_and_infinity_from_a_model_leave_only_base64(self, content: bytes) -> None:
        tensor = Tensor("y", Datatype.FP32, (1,), content)

        assert tensor.data() is None
        assert base64.b64decode(tensor.base64()) == content

    def test_bytes_that_are_not_utf8_leave_only_base64(self) -> None:
        assert Tensor("y", Datatype.BYTES, (1,), b"\x01\x00\x00\x00\xff").data() is None

    def test_a_scalar_is_shown_bare_and_taken_bare(self) -> None:
        assert read("FP32", [], 0.5).data() == 0.5

    def test_a_tensor_without_elements_keeps_its_shape(self) -> None:
        assert read("FP32", [2, 0, 3], [[], []]).data() == [[], []]
        assert read("BYTES", [0, 3], []).data() == []


class TestDataOrBase64:
    def test_exactly_one_is_given(self) -> None:
        assert problem("FP32", [1])[0] == ""
        assert problem("FP32", [1], [1.0], "AACAPw==") == ("", "Give exactly one of 'data' and 'base64', not both.")


class TestShape:
    @pytest.mark.parametrize(
        ("shape", "path"),
        [
            ([-1], "shape.0"),
            ([2, -3], "shape.1"),
            ([True], "shape.0"),
            ([1.0], "shape.0"),
            (["1"], "shape.0"),
            ([None], "shape.0"),
            ([10**30], "shape.0"),
            ([0, 10**30], "shape.1"),
            ([10**5000], "shape.0"),
            ([1] * 17, "shape"),
            ([2**13] * 16, "shape"),
            ([MAX_TENSOR_BYTES // 4 + 1], "shape"),
            ("1", "shape"),
            (1, "shape"),
            ({"0": 1}, "shape"),
            (None, "shape"),
        ],
    )
    def test_a_bad_shape_is_named_before_anything_is_allocated(self, shape: object, path: str) -> None:
        assert problem("FP32", shape, [1.0])[0] == path

    def test_the_limit_is_in_bytes_of_content(self) -> None:
        assert read("FP64", [4], [1, 2, 3, 4], limit=32).shape == (4,)
        assert problem("FP64", [4], [1, 2, 3, 4], limit=31)[0] == "shape"

    def test_strings_count_by_their_bytes_and_the_lengths_before_them(self) -> None:
        assert read("BYTES", [2], ["é", "ab"], limit=12).shape == (2,)
        assert problem("BYTES", [2], ["é", "ab"], limit=11)[0] == "data"


class TestData:
    @pytest.mark.parametrize(
        ("datatype", "shape", "data", "path"),
        [
            ("INT32", [3], [1, 2, True], "data.2"),
            ("INT32", [2], [1, 2.0], "data.1"),
            ("INT32", [2], [1, "2"], "data.1"),
            ("INT32", [2], [None, 2], "data.0"),
            ("INT8", [2], [1, 128], "data.1"),
            ("UINT8", [2], [-1, 1], "data.0"),
            ("UINT64", [1], [2**64], "data.0"),
            ("INT64", [2], [0, 10**5000], "data.1"),
            ("INT8", [2, 2], [[1, 2], [3, 300]], "data.1.1"),
            ("INT8", [2, 2], [1, 2, 3, 300], "data.3"),
            ("BOOL", [2], [True, 1], "data.1"),
            ("BOOL", [1], ["true"], "data.0"),
            ("FP32", [2], [1.0, True], "data.1"),
            ("FP32", [2], [1.0, "1"], "data.1"),
            ("FP32", [2], [1.0, [1.0]], "data.1"),
            ("FP32", [2], [1.0, float("nan")], "data.1"),
            ("FP32", [2], [float("inf"), 1.0], "data.0"),
            ("FP64", [1], json.loads("[1e400]"), "data.0"),
            ("FP64", [1], [10**400], "data.0"),
            ("FP32", [2], [1, 1e39], "data.1"),
            ("FP16", [2], [65504, 65520], "data.1"),
            ("BF16", [1, 2], [[1, 3.4e38]], "data.0.1"),
            ("FP32", [], "0.5", "data"),
            ("BYTES", [2], ["a", 1], "data.1"),
            ("BYTES", [2], ["a", None], "data.1"),
            ("BYTES", [1], ["\ud800"], "data.0"),
        ],
    )
    def test_the_offending_element_is_named(self, datatype: str, shape: list[int], data: object, path: str) -> None:
        assert problem(datatype, shape, data)[0] == path

    @pytest.mark.parametrize("datatype", sorted(FLOATS))
    def test_nan_and_infinity_are_numbers_where_they_are_said_to_be(self, datatype: Datatype) -> None:
        named = [float("nan"), float("inf"), -float("inf"), 1.0]

        assert read(datatype, [4], named, nonfinite=True).content == np.array(named, DTYPES[datatype]).tobytes()
        if datatype is not Datatype.FP64:
            assert problem(datatype, [2], [float("nan"), 1e39], nonfinite=True)[0] == "data.1"

    @pytest.mark.parametrize(
        ("shape", "data", "path"),
        [
            ([3], [1, 2], "data"),
            ([2], [1, 2, 3], "data"),
            ([2, 2], [1, 2, 3], "data"),
            ([2, 2], [[1, 2]], "data"),
            ([2, 2], [[1, 2], [3]], "data.1"),
            ([2, 2], [[1, 2], 3], "data.1"),
            ([2, 2], [[1, 2], {"0": 3}], "data.1"),
            ([2, 1, 2], [[[1, 2]], [[3, 4], [5, 6]]], "data.1"),
            ([2, 2, 2], [[1, 2, 3, 4], [5, 6, 7, 8]], "data.0"),
            ([1], 1, "data"),
            ([1], "abc", "data"),
            ([2], {"0": 1, "1": 2}, "data"),
            ([0], [1], "data"),
            ([1], [], "data"),
        ],
    )
    def test_ragged_and_miscounted_lists_are_named(self, shape: list[int], data: object, path: str) -> None:
        assert problem("INT32", shape, data)[0] == path

    def test_nesting_deeper_than_the_shape_is_not_followed(self) -> None:
        deep: list[Any] = []
        for _level in range(100_000):
            deep = [deep]

        assert problem("FP32", [1], deep)[0] == "data.0"
        assert problem("FP32", [1] * 16, deep)[0] == "data." + ".".join(["0"] * 16)

        while deep:  # let go of level by level: freed at once, lists this deep overflow the stack
            deep = deep.pop()

    def test_messages_say_what_was_expected_and_what_came(self) -> None:
        assert problem("INT8", [1], [300]) == ("data.0", "INT8 goes from -128 to 127; got 300.")
        assert problem("FP32", [3], [1]) == ("data", "The shape holds 3 elements; got 1.")
        assert problem("BOOL", [1], [1]) == ("data.0", "Expected true or false for BOOL, got 1.")


class TestBase64:
    @pytest.mark.parametrize(
        "text",
        [
            "AACAPw",  # without padding
            "AACAPw===",
            "AACA Pw==",
            "AACAPw==\n",
            "AAC_Pw==",
            "ÄACAPw==",
            "AACAPwAA",  # six bytes
            "AACAPwAAgD8=",  # eight bytes
            "AACA",  # three bytes
            "",
            7,
            ["AACAPw=="],
            {"a": 1},
        ],
    )
    def test_only_the_standard_alphabet_with_padding_and_of_the_right_length(self, text: object) -> None:
        assert problem("FP32", [1], base64=text)[0] == "base64"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x01\x00\x00",
            b"\x01\x00\x00\x00",
            b"\x05\x00\x00\x00abc",
            b"\x01\x00\x00\x00ab",
            b"\xff\xff\xff\xffabc",
            b"\x01\x00\x00\x00a" * 2,
        ],
    )
    def test_one_element_of_bytes_is_one_length_and_as_many_bytes(self, content: bytes) -> None:
        assert problem("BYTES", [1], base64=base64.b64encode(content).decode())[0] == "base64"

    def test_a_boolean_is_the_byte_0_or_1(self) -> None:
        assert problem("BOOL", [2], base64="AQI=")[0] == "base64"

    def test_more_than_the_limit_is_refused_by_its_length(self) -> None:
        assert problem("BYTES", [1], base64="A" * 100, limit=60)[0] == "base64"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None)),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(sorted(Datatype)), json_values | shapes, json_values, json_values)
@example(Datatype.FP32, [1], [10**400], None)
@example(Datatype.BYTES, [1], ["\udfff"], None)
def test_whatever_is_sent_is_a_tensor_or_a_validation_problem(
    datatype: Datatype, shape: object, data: object, text: object
) -> None:
    try:
        tensor = read(datatype, shape, data, text, limit=4096)
    except ValidationProblem as refused:
        message = refused.message
    else:
        message = ""
        assert len(tensor.content) <= 4096
        json.dumps(tensor.data(), allow_nan=False)
    assert len(message.encode()) < 400
