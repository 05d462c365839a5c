"""Elements that a message holds one by one become the bytes that Triton makes of them."""

from typing import Any

import numpy as np
import pytest

from inference.dataplane.grpc_v2.messages import question_of
from inference.oip import ModelInferRequest
from marketplace.errors import ValidationProblem


def asked(datatype: str, field: str, values: list[Any]) -> ModelInferRequest:
    message = ModelInferRequest(model_name="openlab/add")
    tensor = message.inputs.add(name="A", datatype=datatype, shape=[len(values)])
    getattr(tensor.contents, field).extend(values)
    return message


KINDS: dict[str, tuple[str, list[Any], str]] = {
    "BOOL": ("bool_contents", [True, False], "?"),
    "INT8": ("int_contents", [-128, 127], "<i1"),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1], "<i2"),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1], "<i4"),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1], "<i8"),
    "UINT8": ("uint_contents", [0, 255], "<u1"),
    "UINT16": ("uint_contents", [0, 2**16 - 1], "<u2"),
    "UINT32": ("uint_contents", [0, 2**32 - 1], "<u4"),
    "UINT64": ("uint64_contents", [0, 2**64 - 1], "<u8"),
    "FP32": ("fp32_contents", [0.1, 3.4e38, float("-inf")], "<f4"),
    "FP64": ("fp64_contents", [0.1, 1.7e308, float("nan")], "<f8"),
}


@pytest.mark.parametrize("datatype", KINDS)
def test_numbers(datatype: str) -> None:
    field, values, storage = KINDS[datatype]

    [tensor] = question_of(asked(datatype, field, values)).call["inputs"]

    assert tensor.content == np.array(values, storage).tobytes()


def test_strings_are_each_behind_their_length() -> None:
    [tensor] = question_of(asked("BYTES", "bytes_contents", [b"", b"ab", b"\0"])).call["inputs"]

    assert tensor.content == b"\0\0\0\0" + b"\2\0\0\0ab" + b"\1\0\0\0\0"


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -(2**15) - 1), ("UINT8", 256)])
def test_a_number_that_does_not_fit_is_refused(datatype: str, value: int) -> None:
    with pytest.raises(ValidationProblem) as problem:
        question_of(asked(datatype, KINDS[datatype][0], [value]))

    assert problem.value.path == f"input.inputs.0.contents.{KINDS[datatype][0]}"


def test_parameters_of_every_kind_are_passed_on_and_tritons_own_are_kept() -> None:
    message = asked("FP32", "fp32_contents", [1])
    message.parameters["yes"].bool_param = True
    message.parameters["count"].int64_param = -3
    message.parameters["more"].uint64_param = 3
    message.parameters["share"].double_param = 0.5
    message.parameters["text"].string_param = "é"
    message.parameters["timeout"].int64_param = 1_500_000
    message.parameters["triton_enable_empty_final_response"].bool_param = True

    call = question_of(message).call

    assert call["parameters"] == {"yes": True, "count": -3, "more": 3, "share": 0.5, "text": "é"}
    assert call["timeout"] == 1.5


def test_an_output_that_is_asked_for_twice_is_asked_for_once() -> None:
    message = asked("FP32", "fp32_contents", [1])
    for name in ("SUM", "OTHER", "SUM"):
        message.outputs.add(name=name)

    assert question_of(message).call["outputs"] == ["SUM", "OTHER"]
