"""A request is checked against the signature of the model before anything of it is read."""

from typing import Any

import pytest

from inference.tensors import Datatype, RawTensor, Signature, TensorSpec, read_request
from marketplace.errors import ValidationProblem

ADD = Signature(
    inputs=(TensorSpec("A", Datatype.FP32, (-1,)), TensorSpec("B", Datatype.FP32, (-1,))),
    outputs=(TensorSpec("SUM", Datatype.FP32, (-1,)), TensorSpec("CARRY", Datatype.BOOL, (-1,))),
)
DIGITS = Signature(
    inputs=(TensorSpec("image", Datatype.FP32, (-1, 1, 28, 28)),),
    outputs=(TensorSpec("scores", Datatype.FP32, (-1, 10)),),
)


def a(**changes: Any) -> RawTensor:
    return RawTensor(**{"name": "A", "datatype": "FP32", "shape": [2], "data": [1, 2], **changes})


def b(**changes: Any) -> RawTensor:
    return a(**{"name": "B", **changes})


def problem(signature: Signature, *arguments: Any) -> tuple[str | None, str]:
    with pytest.raises(ValidationProblem) as caught:
        read_request(signature, *arguments)
    return caught.value.path, caught.value.message


def test_a_fitting_request_is_read() -> None:
    request = read_request(ADD, [b(), a(data=None, base64="AACAPwAAAEA=")], ["SUM"], {"top_k": 3})

    assert [tensor.name for tensor in request.inputs] == ["B", "A"]
    assert request.inputs[0].content == request.inputs[1].content
    assert request.outputs == ("SUM",)
    assert request.parameters == {"top_k": 3}


def test_leaving_outputs_and_parameters_out_asks_for_all_and_sets_none() -> None:
    request = read_request(ADD, [a(), b()])

    assert request.outputs is None
    assert request.parameters == {}


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ([], "input.inputs"),
        ([a()], "input.inputs"),
        ([a(), b(), a(name="C")], "input.inputs.2.name"),
        ([a(), a()], "input.inputs.1.name"),
        ([a(), b(name="b")], "input.inputs.1.name"),
        ([a(), b(name="\ud800")], "input.inputs.1.name"),
        ([a(), b(datatype="INT32")], "input.inputs.1.datatype"),
        ([a(), b(datatype="FLOAT")], "input.inputs.1.datatype"),
        ([a(shape=[2, 1]), b()], "input.inputs.0.shape"),
        ([a(shape=[]), b()], "input.inputs.0.shape"),
        ([a(), b(shape=[-1])], "input.inputs.1.shape.0"),
        ([a(), b(shape=[3], data=[1, 2, 3])], "input.inputs.1.shape"),
        ([a(), b(data=[1, "2"])], "input.inputs.1.data.1"),
    ],
)
def test_the_field_that_does_not_fit_is_named(inputs: list[RawTensor], path: str) -> None:
    assert problem(ADD, inputs)[0] == path


def test_fixed_dimensions_are_the_signatures() -> None:
    path, message = problem(DIGITS, [RawTensor("image", "FP32", [1, 28, 28, 1], data=[0.0] * 784)])

    assert path == "input.inputs.0.shape"
    assert message == ("Input 'image' has the shape [-1, 1, 28, 28], -1 standing for any size; got [1, 28, 28, 1].")


def test_nothing_is_read_before_all_that_is_declared_fits() -> None:
    """The broken data of the first input go unnoticed behind the wrong datatype of the second."""
    assert problem(ADD, [a(data=["x"]), b(datatype="FP64")])[0] == "input.inputs.1.datatype"


def test_independent_leading_dimensions_may_differ() -> None:
    independent = Signature(ADD.inputs, ADD.outputs, batched=False)

    assert len(read_request(independent, [a(), b(shape=[3], data=[1, 2, 3])]).inputs) == 2


@pytest.mark.parametrize(
    ("outputs", "path"), [(["TOTAL"], "input.outputs.0"), (["SUM", "SUM"], "input.outputs.1"), ([], "input.outputs")]
)
def test_outputs_are_the_models_each_once(outputs: list[str], path: str) -> None:
    assert problem(ADD, [a(), b()], outputs)[0] == path


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ([1], "input.parameters"),
        ({"a": [1]}, "input.parameters.a"),
        ({"a": None}, "input.parameters.a"),
        ({"a": 2**63}, "input.parameters.a"),
        ({"a": float("inf")}, "input.parameters.a"),
        ({"a": "\ud800"}, "input.parameters.a"),
        ({"a": "x" * 5000}, "input.parameters"),
        ({f"p{number}": 1 for number in range(33)}, "input.parameters"),
        ({"priority": 1}, "input.parameters"),
        ({"sequence_id": 1}, "input.parameters"),
        ({"triton_enable_empty_final_response": True}, "input.parameters"),
        ({"": 1}, "input.parameters"),
        ({"a\n": 1}, "input.parameters"),
        ({"\ud800": 1}, "input.parameters"),
    ],
)
def test_parameters_are_a_few_scalars_that_do_not_steer_triton(parameters: object, path: str) -> None:
    assert problem(ADD, [a(), b()], None, parameters)[0] == path


def test_a_parameter_may_have_any_name_that_can_be_written() -> None:
    named = {"top-k": 1, "generation.temperature": 0.5, "größe": "x"}

    assert read_request(ADD, [a(), b()], None, named).parameters == named


def test_a_door_names_its_own_fields() -> None:
    with pytest.raises(ValidationProblem) as caught:
        read_request(ADD, [a()], path="body")
    assert caught.value.path == "body.inputs"
