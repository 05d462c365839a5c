"""From VALIDATING to READY or REJECTED, whatever becomes of the worker on the way."""

import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from inference import checking
from inference.checks.sandbox import Sandbox, SandboxFailed
from marketplace.access import Principal
from marketplace.catalog.models import Direction, MLModel, ModelVersion
from marketplace.objects import store
from marketplace.publishing import versions
from tests import factories
from tests.inference import graphs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def objects(settings: Any, tmp_path: Path) -> Path:
    settings.OBJECTS_DIR = tmp_path
    return tmp_path


@pytest.fixture
def model(db: None) -> MLModel:
    return factories.model(factories.tenant("openlab", is_publisher=True), "add")


@pytest.fixture
def owner(model: MLModel) -> Principal:
    return factories.principal(model.publisher)


def submitted(owner: Principal, model: MLModel, artefact: bytes, objects: Path) -> ModelVersion:
    sha256, size = store().put(artefact)
    return versions.submit(owner, model_ref=model.ref, sha256=sha256, size_bytes=size)


def test_a_sound_model_is_ready_with_the_signature_of_its_graph(
    owner: Principal, model: MLModel, objects: Path
) -> None:
    version = submitted(owner, model, graphs.add(), objects)

    assert checking.check_waiting() == 1

    version.refresh_from_db()
    assert (version.status, version.format) == ("READY", "onnx")
    assert [(each.name, each.datatype, each.shape) for each in version.tensors.filter(direction=Direction.INPUT)] == [
        ("A", "FP32", [-1]),
        ("B", "FP32", [-1]),
    ]
    assert [step["name"] for step in version.report["steps"]] == [
        "format",
        "parse",
        "operators",
        "sizes",
        "signature",
        "load",
        "trial",
    ]
    assert {step["status"] for step in version.report["steps"]} == {"passed"}
    facts = version.report["facts"]
    assert (facts["opset"], facts["ir_version"], facts["operators"]) == ({"": 17}, 8, {"Add": 1})
    assert 0 < facts["peak_bytes"] < 512 * 1024**2
    assert set(version.report) == {"steps", "facts"}


def test_another_artefact_is_rejected_with_the_reason_and_what_to_change(
    owner: Principal, model: MLModel, objects: Path
) -> None:
    version = submitted(owner, model, b"import os\nos.system('rm -rf /')\n", objects)

    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert "publishers' code is not run here" in version.report["reason"]
    assert version.report["advice"]
    assert [step["status"] for step in version.report["steps"]] == ["failed"] + ["skipped"] * 6
    assert not version.tensors.exists()


def test_progress_is_reported_while_the_check_runs(
    owner: Principal, model: MLModel, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(owner, model, graphs.add(), objects)
    seen: list[list[str]] = []

    def note(version_id: Any, *, report: dict[str, Any]) -> None:
        seen.append([step["status"] for step in report["steps"]])

    monkeypatch.setattr(versions, "report_progress", note)
    checking.check_waiting()

    assert seen[0] == ["pending"] * 7
    assert ["passed", "passed", "running", "pending", "pending", "pending", "pending"] in seen


def test_those_that_no_task_told_of_are_checked_in_their_order(owner: Principal, model: MLModel, objects: Path) -> None:
    waiting = [submitted(owner, model, graphs.add(), objects) for _ in range(3)]

    assert checking.check_waiting(waiting[2].pk) == 3

    assert {version.status for version in ModelVersion.objects.all()} == {"READY"}


def test_two_workers_do_not_check_at_once(owner: Principal, model: MLModel, objects: Path) -> None:
    submitted(owner, model, graphs.add(), objects)
    tried: list[int] = []

    def other_worker() -> None:
        tried.append(checking.check_waiting())
        connection.close()

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [checking.ADVISORY_LOCK])
        thread = threading.Thread(target=other_worker)
        thread.start()
        thread.join()
        cursor.execute("SELECT pg_advisory_unlock(%s)", [checking.ADVISORY_LOCK])

    assert tried == [0]
    assert checking.check_waiting() == 1


class WorkerDied(BaseException):
    """What nobody catches."""


def test_a_version_whose_check_takes_its_worker_down_twice_is_rejected(
    owner: Principal, model: MLModel, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = submitted(owner, model, graphs.add(), objects)

    def die(*arguments: Any, **keywords: Any) -> None:
        raise WorkerDied

    monkeypatch.setattr(Sandbox, "run", die)
    for _ in range(2):
        with pytest.raises(WorkerDied):
            checking.check_waiting()
        version.refresh_from_db()
        assert version.status == "VALIDATING"
    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert "took its worker down" in version.report["reason"]


def test_a_version_whose_worker_died_once_is_checked_by_the_next(
    owner: Principal, model: MLModel, objects: Path
) -> None:
    version = submitted(owner, model, graphs.add(), objects)
    versions.report_progress(version.pk, report={"steps": [], "facts": {}, "attempts": 1})

    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "READY"


def test_a_sandbox_that_cannot_be_had_is_not_the_versions_fault(
    owner: Principal, model: MLModel, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = submitted(owner, model, graphs.add(), objects)

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise SandboxFailed("no seccomp here")

    with monkeypatch.context() as broken:
        broken.setattr(Sandbox, "run", fail)
        for _ in range(4):
            assert checking.check_waiting() == 1

    version.refresh_from_db()
    assert version.status == "VALIDATING"
    checking.check_waiting()
    version.refresh_from_db()
    assert version.status == "READY"


def test_nobody_waits_behind_a_version_that_cannot_be_checked(
    owner: Principal, model: MLModel, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (submitted(owner, model, graphs.add(), objects) for _ in range(2))
    check_version = checking.check_version

    def fail_for_the_first(version: ModelVersion) -> None:
        if version.pk == first.pk:
            raise SandboxFailed("out of luck")
        check_version(version)

    monkeypatch.setattr(checking, "check_version", fail_for_the_first)
    assert checking.check_waiting() == 2

    assert ModelVersion.objects.get(pk=first.pk).status == "VALIDATING"
    assert ModelVersion.objects.get(pk=second.pk).status == "READY"


def test_an_object_store_that_is_away_is_no_attempt(
    owner: Principal, model: MLModel, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = submitted(owner, model, graphs.add(), objects)

    def away(*arguments: Any) -> None:
        raise OSError("nobody answers")

    with monkeypatch.context() as broken:
        broken.setattr(type(store()), "download", away)
        for _ in range(3):
            with pytest.raises(OSError, match="nobody answers"):
                checking.check_waiting()

    checking.check_waiting()
    version.refresh_from_db()
    assert version.status == "READY"


def test_what_is_gone_from_the_object_store_is_rejected(owner: Principal, model: MLModel, objects: Path) -> None:
    version = submitted(owner, model, graphs.add(), objects)
    assert store().delete(version.sha256)

    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert version.report["advice"] == "Upload it again."


def test_a_signature_that_nobody_could_call_is_rejected(owner: Principal, model: MLModel, objects: Path) -> None:
    artefact = graphs.add().replace(b"SUM", b"S\x07M")
    version = submitted(owner, model, artefact, objects)

    checking.check_waiting()

    version.refresh_from_db()
    assert version.status == "REJECTED"
    assert "characters that cannot be printed" in version.report["reason"]
