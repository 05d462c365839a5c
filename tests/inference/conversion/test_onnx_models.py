"""What skl2onnx writes of scikit-learn's models, made such that it runs here."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from inference.checks.checker import check
from inference.checks.refusal import Refused
from inference.checks.sandbox import Sandbox
from inference.conversion import converter
from inference.conversion.onnx_models import unzip
from inference.formats import read_onnx
from inference.tensors import Datatype

MODELS = Path(__file__).parents[1] / "models"


@pytest.mark.parametrize(("name", "labels"), [("iris", ["setosa", "versicolor", "virginica"]), ("tumour", ["0", "1"])])
def test_the_tensor_holds_what_the_maps_held(tmp_path: Path, name: str, labels: list[str]) -> None:
    source = (MODELS / f"{name}.onnx").read_bytes()
    (tmp_path / "artifact").write_bytes(source)

    converted = converter.convert("onnx", tmp_path)

    assert converted.labels == {"output_probability": labels}
    before = onnxruntime.InferenceSession(source)
    after = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes())
    width = before.get_inputs()[0].shape[1]
    rows = np.random.default_rng(17).uniform(0, 8, (50, width)).astype(np.float32)
    classes, maps = before.run(None, {"X": rows})
    chosen, probabilities = after.run(None, {"X": rows})
    assert (chosen == classes).all()
    assert len(np.unique(classes)) > 1
    expected = [[row[label if label in row else int(label)] for label in labels] for row in maps]
    assert (probabilities == np.array(expected, dtype=np.float32)).all()


def test_the_signature_is_of_tensors_alone() -> None:
    model = onnx.load(MODELS / "iris.onnx")

    unzip(model)

    onnx.checker.check_model(model, full_check=True)
    outputs = read_onnx(model.SerializeToString()).outputs
    assert [(spec.name, spec.datatype, spec.shape) for spec in outputs] == [
        ("output_label", Datatype.BYTES, (-1,)),
        ("output_probability", Datatype.FP32, (-1, 3)),
    ]


@pytest.mark.parametrize("said", [{}, {"locale": "en_US"}, {"locale": "en_US.UTF-8"}])
def test_versions_that_are_newer_by_name_alone_are_lowered(tmp_path: Path, said: dict[str, str]) -> None:
    """And letters are folded by a locale that every server has."""
    folded = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", **said)
    value = helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])
    graph = helper.make_graph([folded], "g", [value], [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])])
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=onnx.IR_VERSION)
    (tmp_path / "artifact").write_bytes(model.SerializeToString())

    with Sandbox() as sandbox:
        assert check(sandbox, tmp_path / "artifact").convert == "onnx"
        assert converter.convert("onnx", tmp_path).labels == {}
        report = check(sandbox, tmp_path / "model.onnx")

    assert report.reason == ""
    converted = onnx.load(tmp_path / "model.onnx")
    assert (converted.ir_version, [opset.version for opset in converted.opset_import]) == (10, [21, 21, 1])
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes())
    assert session.run(None, {"x": np.array(["GROẞE ÄPFEL"], np.object_)})[0].tolist() == ["große äpfel"]


def test_maps_that_are_computed_with_are_refused() -> None:
    model = onnx.load(MODELS / "iris.onnx")
    first = helper.make_tensor("first", TensorProto.INT64, [], [0])
    model.graph.initializer.append(first)
    model.graph.node.append(helper.make_node("SequenceAt", ["output_probability", "first"], ["one"]))

    with pytest.raises(Refused, match="goes on computing"):
        unzip(model)


def test_what_is_no_model_breaks_off_without_harm(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_bytes(b"\x08\x08 no model")

    with pytest.raises(Refused):
        converter.convert("onnx", tmp_path)
