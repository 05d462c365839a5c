"""What tf2onnx makes of TensorFlow's models answers as TensorFlow does. Only where there is a `.venv-convert`."""

import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from inference.checks.refusal import Refused
from inference.conversion import converter

pytestmark = pytest.mark.skipif(
    not converter.is_available("saved-model"), reason="there is no .venv-convert: run `make conversion`"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    python = converter.ENVIRONMENT / "bin" / "python"
    script = Path(__file__).with_name("saved.py")
    subprocess.run([python, script, folder], check=True, capture_output=True)
    return folder


def zipped(folder: Path) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return written.getvalue()


@pytest.mark.parametrize(("name", "kind"), [("network", "saved-model"), ("module", "saved-model"), ("light", "tflite")])
def test_the_answers_are_tensorflows_own(saved: Path, tmp_path: Path, name: str, kind: str) -> None:
    artifact = (saved / name / "model.tflite").read_bytes() if kind == "tflite" else zipped(saved / name / "saved")
    (tmp_path / "artifact").write_bytes(artifact)

    converted = converter.convert(kind, tmp_path)

    assert "Successfully converted" in converted.log
    assert str(tmp_path) not in converted.log
    model = (tmp_path / "model.onnx").read_bytes()
    assert {opset.domain: opset.version for opset in onnx.load_from_string(model).opset_import}[""] == 17
    expected = dict(np.load(saved / name / "outputs.npz"))
    session = onnxruntime.InferenceSession(model)
    answer = session.run(list(expected), dict(np.load(saved / name / "inputs.npz")))
    for value, (output, wanted) in zip(answer, expected.items(), strict=True):
        assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), output
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6, err_msg=output)


@pytest.mark.parametrize(
    ("name", "reason"), [("python", r"calls Python code \(EagerPyFunc\)"), ("unknown", "no counterpart .* Lgamma")]
)
def test_what_cannot_be_converted_is_refused_by_name(saved: Path, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "artifact").write_bytes(zipped(saved / name / "saved"))

    with pytest.raises(Refused, match=reason):
        converter.convert("saved-model", tmp_path)


@pytest.mark.parametrize("kind", ["saved-model", "tflite"])
def test_what_is_damaged_is_refused(saved: Path, tmp_path: Path, kind: str) -> None:
    whole = (saved / "light/model.tflite").read_bytes() if kind == "tflite" else zipped(saved / "network/saved")
    (tmp_path / "artifact").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(Refused):
        converter.convert(kind, tmp_path)
