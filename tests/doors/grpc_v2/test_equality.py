"""Answers are direct Triton's, byte for byte: every datatype, raw and typed, empty tensors, and every demo model."""

from collections.abc import Sequence
from typing import Any

import grpc.aio
import pytest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.oip import ModelInferRequest, ModelInferResponse
from inference.tensors import Datatype, Tensor, parse
from marketplace.catalog.models import MLModel
from tests.doors.grpc_v2.calls import bearer
from tests.doors.rest_v2.test_equality import DATATYPES, IDENTITY, content, example, tensors
from tests.doors.site import Site


def asked(ref: str, inputs: Sequence[Tensor], outputs: Sequence[str] = ()) -> ModelInferRequest:
    message = ModelInferRequest(model_name=ref, id="mine")
    for tensor in inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        message.raw_input_contents.append(tensor.content)
    for name in outputs:
        message.outputs.add(name=name)
    return message


async def same(site: Site, stub: Any, message: ModelInferRequest) -> ModelInferResponse:
    """Our answer, which is Triton's but for the names of the model and its version."""
    ours = await stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"]))
    direct = ModelInferRequest()
    direct.CopyFrom(message)
    direct.model_name = site.version(message.model_name).triton_name
    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        expected = await GRPCInferenceServiceStub(channel).ModelInfer(direct)
    expected.model_name, expected.model_version = message.model_name, "1"
    # An ensemble's answer has some, which nobody set.
    expected.ClearField("parameters")
    assert ours.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    return ours  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [3, 1, 0])
@pytest.mark.parametrize("datatype", DATATYPES)
async def test_raw_contents_come_through(site: Site, stub: Any, datatype: Datatype, rows: int) -> None:
    answer = await same(site, stub, asked(IDENTITY, tensors(rows), [f"out_{datatype}"]))

    assert list(answer.raw_output_contents) == [content(datatype, rows)]


@pytest.mark.parametrize("rows", [3, 0])
async def test_bfloat16_comes_through(site: Site, stub: Any, rows: int) -> None:
    sent = Tensor("in_BF16", Datatype.BF16, (rows, 2), content(Datatype.BF16, rows))

    answer = await same(site, stub, asked("openlab/identity-bf16", [sent]))

    assert list(answer.raw_output_contents) == [sent.content]


async def test_all_outputs_come_in_tritons_order(site: Site, stub: Any) -> None:
    answer = await same(site, stub, asked(IDENTITY, tensors(1)))

    assert len(answer.outputs) == len(DATATYPES)


TYPED: dict[str, list[tuple[str, str, str, list[Any]]]] = {
    "openlab/add": [("A", "FP32", "fp32_contents", [0.1, float("nan")]), ("B", "FP32", "fp32_contents", [0.2, 1])],
    "openlab/lookup": [("index", "INT64", "int64_contents", [2, 0, 1])],
    "openlab/sentiment": [("text", "BYTES", "bytes_contents", ["I love é".encode()])],
}


@pytest.mark.parametrize("ref", TYPED)
async def test_typed_contents_are_answered_as_on_triton(site: Site, stub: Any, ref: str) -> None:
    message = ModelInferRequest(model_name=ref)
    for name, datatype, field, values in TYPED[ref]:
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
    if ref == "openlab/sentiment":
        [given] = example("sentiment")
        message.inputs[0].name, message.inputs[0].shape[:] = given["name"], [1] * len(given["shape"])

    await same(site, stub, message)


@pytest.mark.parametrize("model", ["add", "digits", "minilm", "sentiment", "tumour"])
async def test_demo_models_answer_as_on_triton(site: Site, stub: Any, model: str) -> None:
    inputs = [
        parse(each["name"], Datatype(each["datatype"]), each["shape"], data=each["data"], path="input.inputs.0")
        for each in example(model)
    ]

    answer = await same(site, stub, asked(f"openlab/{model}", inputs))

    assert answer.raw_output_contents


@pytest.mark.parametrize("most", [2, 100])
async def test_classes_are_named_as_triton_names_them(site: Site, stub: Any, most: int) -> None:
    inputs = [
        parse(each["name"], Datatype(each["datatype"]), each["shape"], data=each["data"], path="input.inputs.0")
        for each in example("digits")
    ]
    message = asked("openlab/digits", inputs)
    message.outputs.add(name=site.records(lambda: _output("openlab/digits")))
    message.outputs[0].parameters["classification"].int64_param = most

    answer = await stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"]))

    message.model_name = site.version("openlab/digits").triton_name
    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        tritons = await GRPCInferenceServiceStub(channel).ModelInfer(message)
    assert [(each.datatype, each.shape) for each in answer.outputs] == [
        (each.datatype, each.shape) for each in tritons.outputs
    ]
    # Triton has not been told what the classes are called.
    ours, theirs = _strings(answer.raw_output_contents[0]), _strings(tritons.raw_output_contents[0])
    assert [text.split(":")[:2] for text in ours] == [text.split(":") for text in theirs]


def _output(ref: str) -> str:
    return str(MLModel.objects.by_ref(ref).get().live_version.tensors.get(direction="OUTPUT").name)


def _strings(content: bytes) -> list[str]:
    texts = []
    while content:
        size = int.from_bytes(content[:4], "little")
        texts.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return texts
