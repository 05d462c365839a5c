"""Versions whose artefact is no ONNX yet, and the worker that converts them (inference.conversion).

A version waits for it with {"conversion": {"state": "waiting", "kind", "steps", "attempts"}} in its report; afterwards
the checks go on with {"conversion": {"kind", "steps", "sha256", "labels"}} (checking.py).
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from marketplace.catalog.models import ModelVersion, ModelVersionStatus
from marketplace.objects import store
from marketplace.objects.content import CorruptObject
from marketplace.publishing import versions, worker

from .checks.refusal import Refused
from .checks.report import Report
from .checks.sandbox import SandboxFailed
from .conversion import converter

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x636F6E76657274  # "convert": any number that nothing else locks
MOST_ATTEMPTS = 2
STEP = "convert"

NOT_CONVERTED = Refused(
    "This marketplace has no conversion worker, and this is no ONNX model yet.",
    "Convert it yourself and upload the ONNX model: `python -m tf2onnx.convert --saved-model folder --opset 17 "
    "--output model.onnx`, `python -m tf2onnx.convert --tflite model.tflite --opset 17 --output model.onnx`, or for "
    'scikit-learn `to_onnx(model, X, options={"zipmap": False})`.',
)
GIVEN_UP = Refused(
    "The conversion was started twice, and each time it took its worker down with it.",
    "Convert the model yourself with tf2onnx, and upload the ONNX model.",
)
GONE = Refused("What was uploaded is not whole any more in the object store.", "Upload it again.")


def begin(version: ModelVersion, kind: str, steps: Sequence[dict[str, Any]]) -> None:
    """Has it converted: one that TensorFlow is needed for by the worker that has it, any other here and now."""
    if not converter.is_available(kind):
        _refuse(version.pk, steps, NOT_CONVERTED)
    elif kind in converter.KINDS_OF_TENSORFLOW:
        _wait(version.pk, kind, steps, attempts=0, status="pending")
        worker.tell_converter(version.pk)
    else:
        _convert(version, kind, steps)


def convert_waiting(first: UUID | None = None) -> int:
    """Converts what waits, `first` and then the oldest. Returns how many: 0 while another worker does it."""
    tried = 0
    with _alone() as alone:
        while alone and (version := _next(first)) is not None:
            tried += 1
            waiting = version.report["conversion"]
            kind, steps, attempts = waiting["kind"], waiting["steps"], waiting["attempts"]
            if attempts >= MOST_ATTEMPTS:
                _refuse(version.pk, steps, GIVEN_UP)
                continue
            _wait(version.pk, kind, steps, attempts=attempts + 1, status="running")
            _convert(version, kind, steps)
            worker.tell_checker(version.pk)
    return tried


def remind() -> None:
    """Tells the converter of those that it was not told of, or whose worker died."""
    if (version := _next(None)) is not None:
        worker.tell_converter(version.pk)


def _next(first: UUID | None) -> ModelVersion | None:
    waiting = ModelVersion.objects.filter(status=ModelVersionStatus.VALIDATING, report__conversion__state="waiting")
    return (waiting.filter(pk=first).first() if first else None) or waiting.order_by("pk").first()


def _convert(version: ModelVersion, kind: str, steps: Sequence[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        scratch = Path(folder)
        try:
            store().download(version.sha256, scratch / "artifact")
            converted = converter.convert(kind, scratch)
            sha256, _size = store().put(scratch / "model.onnx")
        except Refused as refused:
            _refuse(version.pk, steps, refused)
        except (FileNotFoundError, CorruptObject):
            _refuse(version.pk, steps, GONE)
        except SandboxFailed:
            log.exception("version %s could not be converted", version.pk)
            _refuse(version.pk, steps, NOT_CONVERTED)
        else:
            passed = [*steps, _step("passed", converted.log, converted.seconds)]
            report = Report().as_json()
            conversion = {"kind": kind, "steps": passed, "sha256": sha256, "labels": converted.labels}
            versions.report_progress(
                version.pk, report={**report, "steps": [*passed, *report["steps"]], "conversion": conversion}
            )


def _wait(version_id: UUID, kind: str, steps: Sequence[dict[str, Any]], *, attempts: int, status: str) -> None:
    conversion = {"state": "waiting", "kind": kind, "steps": list(steps), "attempts": attempts}
    report = {"steps": [*steps, _step(status)], "facts": {}, "conversion": conversion}
    versions.report_progress(version_id, report=report)


def _refuse(version_id: UUID, steps: Sequence[dict[str, Any]], refused: Refused) -> None:
    report = {"steps": [*steps, _step("failed")], "facts": {}}
    versions.reject(version_id, report={**report, "reason": refused.reason, "advice": refused.advice})


def _step(status: str, detail: str = "", seconds: float = 0.0) -> dict[str, Any]:
    return {"name": STEP, "status": status, "detail": detail, "seconds": round(seconds, 4)}


@contextmanager
def _alone() -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        (alone,) = cursor.fetchone()
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
