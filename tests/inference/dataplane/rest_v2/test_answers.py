"""An answer's JSON and what follows it (tests/doors compares them with Triton's)."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from inference.dataplane.rest_v2 import answers
from inference.tensors import Datatype, Tensor
from inference.tensors.datatypes import FORMATS, STORAGE


def data(tensor: Tensor) -> Any:
    headers, body = answers.written('"model_name":"x"', [tensor], {}, binary_by_default=False)
    assert headers == [(b"content-type", b"application/json")]
    (output,) = json.loads(body)["outputs"]
    assert list(output) == ["name", "datatype", "shape", "data"]
    return output["data"]


def numbers(datatype: Datatype, *values: float) -> Tensor:
    return Tensor("y", datatype, (len(values),), np.array(values, STORAGE[datatype]).tobytes())


@pytest.mark.parametrize("datatype", FORMATS)
def test_numbers_are_those_that_the_bytes_are(datatype: Datatype) -> None:
    bits = np.random.default_rng(5).bytes(100 * STORAGE[datatype].itemsize)
    content = bytes(byte & 1 for byte in bits) if datatype is Datatype.BOOL else bits
    values = np.frombuffer(content, STORAGE[datatype])

    written = data(Tensor("y", datatype, (10, 10), content))

    assert len(written) == 100
    assert np.array(written, STORAGE[datatype]).tobytes() == values.tobytes() or np.isnan(values).any()
    assert all(type(each) is type(values.tolist()[0]) for each in written)


@pytest.mark.parametrize("datatype", [Datatype.INT64, Datatype.BF16, Datatype.BOOL, Datatype.BYTES])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_many_elements_are_as_few(datatype: Datatype, more: int) -> None:
    count = 2 * answers.MANY + more
    element = b"\x01\0\0\0\xff" if datatype is Datatype.BYTES else bytes(STORAGE[datatype].itemsize)

    _headers, body = answers.written(
        "", [Tensor("y", datatype, (count,), element * count)], {}, binary_by_default=False
    )

    written = {Datatype.INT64: b"0", Datatype.BF16: b"0.0", Datatype.BOOL: b"false", Datatype.BYTES: b'"\xff"'}[
        datatype
    ]
    assert body.partition(b'"data":')[2] == b"[" + b",".join([written] * count) + b"]}]}"


def test_floats_are_written_as_the_doubles_that_they_are() -> None:
    assert data(numbers(Datatype.FP32, 0.1)) == [0.10000000149011612]
    assert data(numbers(Datatype.FP16, 0.1)) == [0.0999755859375]
    assert data(Tensor("y", Datatype.BF16, (1,), b"\xcd\x3d")) == [0.10009765625]


def test_what_is_no_number_is_written_by_name() -> None:
    _headers, body = answers.written(
        "", [numbers(Datatype.FP32, float("nan"), float("inf"), -float("inf"))], {}, binary_by_default=False
    )

    assert b'"data":[NaN,Infinity,-Infinity]' in body


def test_truth_is_written_in_lower_case() -> None:
    assert data(numbers(Datatype.BOOL, True, False)) == [True, False]


def test_strings_that_are_no_text_leave_as_the_bytes_that_they_are() -> None:
    strings = (b"\xff\xfe", "é\n".encode())
    content = b"".join(struct.pack("<I", len(each)) + each for each in strings)

    _headers, body = answers.written("", [Tensor("y", Datatype.BYTES, (2,), content)], {}, binary_by_default=False)

    assert b'"data":["\xff\xfe","\xc3\xa9\\n"]' in body


def test_binary_outputs_follow_the_json_in_their_order() -> None:
    outputs = [numbers(Datatype.INT8, 1, 2), Tensor("z", Datatype.FP32, (1,), b"abcd")]

    headers, body = answers.written('"model_name":"x"', outputs, {"y": True}, binary_by_default=True)

    length = int(dict(headers)[b"inference-header-content-length"])
    assert dict(headers)[b"content-type"] == b"application/octet-stream"
    assert [each["parameters"] for each in json.loads(body[:length])["outputs"]] == [
        {"binary_data_size": 2},
        {"binary_data_size": 4},
    ]
    assert body[length:] == b"\x01\x02abcd"


def test_an_output_may_be_asked_for_otherwise_than_the_rest() -> None:
    outputs = [numbers(Datatype.INT8, 1, 2), Tensor("z", Datatype.FP32, (1,), b"abcd")]

    headers, body = answers.written("", outputs, {"z": False}, binary_by_default=True)

    assert body.endswith(b"\x01\x02")
    assert b"inference-header-content-length" in dict(headers)


def test_an_answer_of_empty_binary_outputs_is_json() -> None:
    """As Triton has it."""
    headers, body = answers.written(
        '"model_name":"x"', [Tensor("y", Datatype.FP32, (0,), b"")], {}, binary_by_default=True
    )

    assert headers == [(b"content-type", b"application/json")]
    assert json.loads(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_an_id_comes_back_whatever_it_is() -> None:
    assert json.loads("{" + answers.head('"\ud800é', "openlab/add", 3) + "}") == {
        "id": '"\ud800é',
        "model_name": "openlab/add",
        "model_version": "3",
    }
    assert '"id"' not in answers.head("", "openlab/add", 3)
