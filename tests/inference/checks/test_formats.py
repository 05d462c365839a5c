"""What is sound is accepted with its signature, and what has to be converted is named."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference import gateway
from inference.checks.checker import check
from inference.checks.report import Report
from inference.checks.sandbox import MIB, Limits, Sandbox
from inference.formats import archived_model
from inference.tensors import Datatype, InferenceRequest, Signature, Tensor, TensorSpec
from tests.inference import ensembles, generators, graphs
from tests.inference.checks import hostile
from tests.inference.conftest import Deploy


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


@pytest.fixture
def checked(sandbox: Sandbox, tmp_path: Path) -> Any:
    def run(content: bytes) -> Report:
        (tmp_path / "artifact").write_bytes(content)
        return check(sandbox, tmp_path / "artifact")

    return run


def archive(folder: str = "") -> bytes:
    """x + (1, 2, 3), where 1, 2, 3 are in another file, from the fifth byte on."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "data/weights.bin", "offset": "4", "length": "12"}.items():
        weights.external_data.add(key=key, value=value)
    model = hostile.model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [weights],
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    content = bytes(4) + np.array([1, 2, 3], np.float32).tobytes()
    return hostile.zipped(
        {f"{folder}add.onnx": model.SerializeToString(), f"{folder}data/weights.bin": content, f"{folder}README": b"Hi"}
    )


X = (TensorSpec("x", Datatype.FP32, (3,)),)
Y = (TensorSpec("y", Datatype.FP32, (3,)),)


@pytest.mark.parametrize("folder", ["", "export/", "deep/in/the/zip/"])
def test_a_zip_of_a_model_and_its_external_data(checked: Any, folder: str) -> None:
    report = checked(archive(folder))
    assert report.reason == ""
    assert (report.accepted.format, report.accepted.inputs, report.accepted.outputs) == ("onnx-archive", X, Y)
    assert report.facts["parameters"] == 3


@pytest.mark.parametrize("folder", ["", "export/"])
async def test_such_a_zip_runs_on_triton(deploy: Deploy, triton: str, folder: str) -> None:
    name = await deploy(archive(folder), "onnx-archive")
    tensor = Tensor("x", Datatype.FP32, (3,), np.array([10, 20, 30], np.float32).tobytes())

    answer = await gateway.infer(triton, name, InferenceRequest((tensor,)), timeout=20)

    assert np.frombuffer(answer[0].content, np.float32).tolist() == [11, 22, 33]


def test_what_else_is_in_the_zip_stays_there() -> None:
    _model, data = archived_model(archive("export/"))
    assert set(data) == {"data/weights.bin"}


def test_an_ensemble_has_the_signature_of_its_description(checked: Any) -> None:
    signature = Signature(
        (TensorSpec("A", Datatype.FP32, (-1,)), TensorSpec("B", Datatype.FP32, (-1,))),
        (TensorSpec("SUM", Datatype.FP32, (-1,)),),
    )
    maps = {"A": "A", "B": "B"}, {"SUM": "SUM"}
    network = ensembles.step("network", "onnxruntime", signature, *maps)
    report = checked(ensembles.archive(signature, network, files={"network/model.onnx": graphs.add()}))
    assert report.reason == ""
    assert (report.accepted.format, report.accepted.inputs) == ("ensemble", signature.inputs)
    assert [step["name"] for step in report.steps][:3] == ["format", "ensemble", "parse"]
    assert report.facts["operators"] == {"Add": 1}


def test_a_tokenizer_alone_is_accepted(checked: Any) -> None:
    assert checked(ensembles.pipeline(ensembles.words("hello"))).accepted.format == "ensemble"


def zip_of(*names: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as zipped:
        for name in names:
            zipped.writestr(name, b"content")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(zip_of("saved_model.pb", "variables/variables.index"), "saved-model", id="SavedModel"),
        pytest.param(
            zip_of("export/1/saved_model.pb", "export/1/variables/v"), "saved-model", id="SavedModel in folder"
        ),
        pytest.param(b"\x1c\x00\x00\x00TFL3" + bytes(100), "tflite", id="TFLite"),
        pytest.param(b"\x1c\x00\x00\x00TFL3abcdefgh", "tflite", id="TFLite that could be text"),
    ],
)
def test_what_the_conversion_worker_takes_is_named(checked: Any, content: bytes, kind: str) -> None:
    report = checked(content)
    assert (report.convert, report.reason, report.accepted) == (kind, "", None)
    assert report.as_json()["steps"][0]["status"] == "passed"


def test_scikit_learns_zipmap_is_converted(checked: Any) -> None:
    scores = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    output = helper.make_value_info("y", helper.make_sequence_type_proto(maps))
    model = hostile.model(
        [scores],
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        outputs=[output],
        opsets={"": 17, "ai.onnx.ml": 3},
    )
    assert checked(model.SerializeToString()).convert == "onnx"


def test_functions_of_the_model_itself_are_welcome(checked: Any) -> None:
    opsets = [helper.make_opsetid("", 17)]
    double = helper.make_function("own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets)
    model = hostile.model(
        [helper.make_node("Double", ["x"], ["y"], domain="own")], opsets={"": 17, "own": 1}, functions=[double]
    )
    assert checked(model.SerializeToString()).accepted


def test_the_tokenizer_that_skl2onnx_writes_is_welcome(checked: Any) -> None:
    tokenizer = helper.make_node(
        "Tokenizer",
        ["x"],
        ["y"],
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value="#",
        tokenexp="[a-z]+",
    )
    model = hostile.model(
        [tokenizer],
        inputs=[helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.STRING, ["n", "m"])],
        opsets={"": 17, "com.microsoft": 1},
    )
    assert checked(model.SerializeToString()).reason == ""


def test_a_domain_that_is_declared_and_not_used_is_no_harm(checked: Any) -> None:
    model = hostile.model([helper.make_node("Neg", ["x"], ["y"])], opsets={"": 17, "com.microsoft": 1})
    assert checked(model.SerializeToString()).accepted


def test_a_model_that_fails_on_made_up_inputs_is_accepted_and_told_so(checked: Any) -> None:
    weights = [numpy_helper.from_array(np.zeros(2, np.float32), "w")]
    narrow = hostile.model([helper.make_node("Reshape", ["w", "s"], ["y"])], weights)
    narrow.graph.input[0].CopyFrom(helper.make_tensor_value_info("s", TensorProto.INT64, [2]))
    report = checked(narrow.SerializeToString())
    assert report.accepted
    assert "fails on made-up inputs, which it may never get" in report.steps[-1]["detail"]


def test_an_index_out_of_range_is_tried_again_with_zeros(checked: Any) -> None:
    weights = [numpy_helper.from_array(np.zeros((1, 2), np.float32), "w")]
    lookup = hostile.model([helper.make_node("Gather", ["w", "i"], ["y"])], weights)
    lookup.graph.input[0].CopyFrom(helper.make_tensor_value_info("i", TensorProto.INT64, []))
    report = checked(lookup.SerializeToString())
    assert report.steps[-1]["detail"] == "It runs on made-up inputs."


def test_a_model_that_takes_no_batch_of_two_is_told_so(checked: Any) -> None:
    weights = [numpy_helper.from_array(np.array([1, 3], np.int64), "s")]
    fixed = hostile.model(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        weights,
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    report = checked(fixed.SerializeToString())
    assert report.accepted
    assert "fails on a batch of two" in report.steps[-1]["detail"]


def test_a_large_model_may_use_more(sandbox: Sandbox, tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.zeros((64, 2**18), np.float32), "w")  # 64 MiB
    model = hostile.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [weights],
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2**18])],
    )
    artifact = tmp_path / "artifact"
    artifact.write_bytes(model.SerializeToString())
    report = check(sandbox, artifact, limits=Limits(**{**_limits(artifact), "seconds": 120, "cpu_seconds": 60}))
    assert report.reason == ""
    assert report.facts["peak_bytes"] > 128 * MIB


def _limits(artifact: Path) -> dict[str, Any]:
    return {"memory_bytes": Limits.for_size(artifact.stat().st_size).memory_bytes}


def test_a_generator_is_accepted_without_a_chat_template_and_not_with_one(checked: Any) -> None:
    network = {"model.onnx": graphs.add()}
    assert checked(generators.altered(network, chat_template=None)).accepted.decoupled
    assert "chat template" in checked(generators.altered(network, chat_template="{{ messages }}")).reason
