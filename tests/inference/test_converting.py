"""What is no ONNX yet on its way to READY, by way of the worker that converts it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from inference import checking, converting
from inference.checks.refusal import Refused
from inference.checks.sandbox import SandboxFailed
from inference.conversion import converter
from inference.conversion.converter import Converted
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.objects import store
from marketplace.publishing import versions
from tests import factories
from tests.inference import graphs

pytestmark = pytest.mark.django_db(transaction=True)

IRIS = Path(__file__).parent / "models/iris.onnx"
TFLITE = b"\x1c\0\0\0TFL3 and what is for TensorFlow to read"


@pytest.fixture
def model(settings: Any, tmp_path: Path) -> MLModel:
    settings.OBJECTS_DIR = tmp_path
    return factories.model(factories.tenant("openlab", is_publisher=True))


@pytest.fixture
def converts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], list[Path]]:
    """`converts(how)`: there is a converter, and this is what it does in its scratch folder. Answers its runs."""

    def replaced(how: Callable[[Path], None]) -> list[Path]:
        runs: list[Path] = []

        def convert(kind: str, scratch: Path) -> Converted:
            assert (kind, (scratch / "artifact").read_bytes()) == ("tflite", TFLITE)
            runs.append(scratch)
            how(scratch)
            return Converted(1.5, "Successfully converted", {})

        monkeypatch.setattr(converter, "is_available", lambda kind: True)
        monkeypatch.setattr(converter, "convert", convert)
        return runs

    return replaced


def submitted(model: MLModel, artifact: bytes) -> ModelVersion:
    sha256, size = store().put(artifact)
    return versions.submit(factories.principal(model.publisher), model_ref=model.ref, sha256=sha256, size_bytes=size)


def write(content: bytes) -> Callable[[Path], None]:
    def how(scratch: Path) -> None:
        (scratch / "model.onnx").write_bytes(content)

    return how


def fail(error: Exception) -> Callable[[Path], None]:
    def how(scratch: Path) -> None:
        raise error

    return how


def steps(version: ModelVersion) -> list[tuple[str, str]]:
    return [(step["name"], step["status"]) for step in version.report["steps"]]


PASSED = [(name, "passed") for name in ("format", "parse", "operators", "sizes", "signature", "load", "trial")]


def test_a_classifier_of_scikit_learn_is_ready_with_a_tensor_of_probabilities_and_its_labels(model: MLModel) -> None:
    version = submitted(model, IRIS.read_bytes())

    checking.check_waiting()

    version.refresh_from_db()
    assert (version.status, version.source_format) == ("READY", "onnx"), version.report
    output = version.tensors.get(name="output_probability")
    assert (output.datatype, output.shape, output.labels) == ("FP32", [-1, 3], ["setosa", "versicolor", "virginica"])
    assert output.content_type == "application/x-class-scores"
    assert ("convert", "passed") in steps(version)
    assert steps(version)[-len(PASSED) :] == PASSED
    assert set(version.report) == {"steps", "facts"}


def test_what_tensorflow_is_needed_for_waits_for_the_worker_that_has_it(
    model: MLModel, converts: Callable[..., list[Path]]
) -> None:
    runs = converts(write(graphs.add()))
    version = submitted(model, TFLITE)

    checking.check_waiting()
    checking.check_waiting()

    version.refresh_from_db()
    assert (version.status, runs) == ("VALIDATING", [])
    assert steps(version) == [("format", "passed"), ("convert", "pending")]


def test_it_is_checked_then_as_if_the_converted_had_been_uploaded(
    model: MLModel, converts: Callable[..., list[Path]]
) -> None:
    runs = converts(write(graphs.add()))
    version = submitted(model, TFLITE)
    uploaded = version.sha256
    checking.check_waiting()

    assert (converting.convert_waiting(), converting.convert_waiting()) == (1, 0)
    checking.check_waiting()

    version.refresh_from_db()
    assert len(runs) == 1
    assert (version.status, version.format, version.source_format) == ("READY", "onnx", "tflite")
    assert version.source_sha256 == uploaded
    assert store().get(version.sha256) == graphs.add()
    assert steps(version) == [("format", "passed"), ("convert", "passed"), *PASSED]
    assert (
        version.report["steps"][1] | {"detail": "Successfully converted", "seconds": 1.5} == version.report["steps"][1]
    )


def test_a_conversion_that_yields_no_sound_model_is_rejected_by_the_checks(
    model: MLModel, converts: Callable[..., list[Path]]
) -> None:
    converts(write(b"import os"))
    version = submitted(model, TFLITE)

    checking.check_waiting()
    converting.convert_waiting()
    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert "publishers' code is not run here" in version.report["reason"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(Refused("It calls Python.", "Do not."), "It calls Python.", id="refused"),
        pytest.param(SandboxFailed("no Landlock"), converting.NOT_CONVERTED.reason, id="cannot be locked in"),
    ],
)
def test_what_cannot_be_converted_is_rejected_with_the_reason(
    model: MLModel, converts: Callable[..., list[Path]], error: Exception, reason: str
) -> None:
    converts(fail(error))
    version = submitted(model, TFLITE)

    checking.check_waiting()
    converting.convert_waiting()

    version.refresh_from_db()
    assert (version.status, version.report["reason"]) == ("REJECTED", reason)
    assert version.report["advice"]
    assert steps(version) == [("format", "passed"), ("convert", "failed")]


def test_where_there_is_no_converter_the_publisher_is_told_to_convert_it(
    model: MLModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(converter, "ENVIRONMENT", tmp_path / "none")
    version = submitted(model, TFLITE)

    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert "no conversion worker" in version.report["reason"]
    assert "python -m tf2onnx.convert --tflite" in version.report["advice"]


def test_a_conversion_that_takes_its_worker_down_twice_is_given_up(
    model: MLModel, converts: Callable[..., list[Path]]
) -> None:
    class Killed(BaseException):
        """The worker's end."""

    def die(scratch: Path) -> None:
        raise Killed

    runs = converts(die)
    version = submitted(model, TFLITE)
    checking.check_waiting()
    for _ in range(2):
        with pytest.raises(Killed):
            converting.convert_waiting()

    converting.convert_waiting()

    version.refresh_from_db()
    assert (version.status, len(runs)) == ("REJECTED", 2)
    assert "took its worker down" in version.report["reason"]


def test_two_workers_do_not_convert_at_once(model: MLModel, converts: Callable[..., list[Path]]) -> None:
    begun, go_on = threading.Event(), threading.Event()
    tried: list[int] = []

    def slowly(scratch: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        write(graphs.add())(scratch)

    runs = converts(slowly)
    submitted(model, TFLITE)
    checking.check_waiting()

    def other_worker() -> None:
        try:
            tried.append(converting.convert_waiting())
        finally:
            connection.close()

    first = threading.Thread(target=other_worker)
    first.start()
    assert begun.wait(30)
    second = converting.convert_waiting()
    go_on.set()
    first.join(30)

    assert (second, tried, len(runs)) == (0, [1], 1)
