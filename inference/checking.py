"""Versions on their way from VALIDATING to READY or REJECTED: what was uploaded goes through inference.checks.

One check at a time, held by an advisory lock that dies with its worker: a worker always has a hand free for the
reconciler, and a check that took its worker with it is known by the lock being free. What is kept in the report until
the end, and is nobody's to see: "attempts", and the "conversion" that is waited for or has been made (converting.py).
"""

import functools
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connection

from marketplace.catalog.models import Direction, ModelVersion, ModelVersionStatus
from marketplace.errors import ValidationProblem
from marketplace.objects import store
from marketplace.objects.content import CorruptObject
from marketplace.publishing import versions
from marketplace.publishing.versions import Checked, Tensor

from . import converting
from .checks.checker import check
from .checks.refusal import Refused
from .checks.report import Accepted, Report
from .checks.sandbox import Sandbox, SandboxFailed
from .ensembles import CLASS_SCORES, Described, read_ensemble

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x636865636B  # "check": any number that nothing else locks
MOST_ATTEMPTS = 2
# A worker looks for more to check until it has been at it this long; then it lets other tasks come first.
SECONDS_AT_ONCE = 60

GIVEN_UP = Refused(
    "The check was started {attempts} times, and each time it took its worker down with it.",
    "Try `onnxruntime.InferenceSession` on the model yourself, export it again, and upload that.",
)
GONE = Refused("What was uploaded is not whole any more in the object store.", "Upload it again.")
STILL_NO_ONNX = Refused(
    "What the conversion made has to be converted again.", "Convert the model yourself, and upload the ONNX model."
)


def check_waiting(first: UUID | None = None) -> int:
    """Checks what waits, `first` and then the oldest. Returns how many were tried: 0 while another worker does it."""
    tried = 0
    failed: set[UUID] = set()
    started = time.monotonic()
    with _alone() as alone:
        while alone and time.monotonic() - started < SECONDS_AT_ONCE:
            waiting = ModelVersion.objects.filter(
                status=ModelVersionStatus.VALIDATING, report__conversion__state__isnull=True
            ).exclude(pk__in=failed)
            version = (waiting.filter(pk=first).first() if first else None) or waiting.order_by("pk").first()
            if version is None:
                break
            tried += 1
            try:
                check_version(version)
            except SandboxFailed:
                # Not the version's fault: the next round tries again, and nobody waits behind it.
                log.exception("version %s could not be checked", version.pk)
                failed.add(version.pk)
    return tried


def check_version(version: ModelVersion) -> None:
    """One attempt, by whoever holds the lock. Raises SandboxFailed, and leaves the version as it was."""
    known = Known.of(version.report)
    if known.attempts >= MOST_ATTEMPTS:
        report = Report()
        report.refuse(GIVEN_UP.reason.format(attempts=known.attempts), GIVEN_UP.advice)
        versions.reject(version.pk, report=known.published(report))
        return
    tell = functools.partial(_tell, version.pk, replace(known, attempts=known.attempts + 1))
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        artifact = Path(folder) / "artifact"
        sha256 = known.converted or version.sha256
        try:
            store().download(sha256, artifact)
        except (FileNotFoundError, CorruptObject):
            report = Report()
            report.refuse(GONE.reason, GONE.advice)
            versions.reject(version.pk, report=known.published(report))
            return
        tell(Report().as_json())
        try:
            report = check(_sandbox(), artifact, progress=tell)
        except SandboxFailed:
            versions.report_progress(version.pk, report=version.report)
            raise
        _conclude(version, known, report, sha256, artifact)


@dataclass(frozen=True, slots=True)
class Known:
    """What the report holds beside what is shown: attempts so far, steps before a conversion, what came of it."""

    attempts: int = 0
    steps: tuple[dict[str, Any], ...] = ()
    converted: str = ""
    source: str = ""
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, report: dict[str, Any]) -> "Known":
        conversion = report.get("conversion", {})
        return cls(
            report.get("attempts", 0),
            tuple(conversion.get("steps", ())),
            conversion.get("sha256", ""),
            conversion.get("kind", ""),
            conversion.get("labels", {}),
        )

    def published(self, report: Report) -> dict[str, Any]:
        return self.with_steps(report.as_json())

    def with_steps(self, report: dict[str, Any]) -> dict[str, Any]:
        return {**report, "steps": [*self.steps, *report["steps"]]}

    def kept(self, report: dict[str, Any]) -> dict[str, Any]:
        conversion = (
            {"steps": list(self.steps), "sha256": self.converted, "kind": self.source, "labels": self.labels}
            if self.converted
            else {}
        )
        return {**self.with_steps(report), "attempts": self.attempts, "conversion": conversion}


def _tell(version_id: UUID, known: Known, report: dict[str, Any]) -> None:
    versions.report_progress(version_id, report=known.kept(report))


def _conclude(version: ModelVersion, known: Known, report: Report, sha256: str, artifact: Path) -> None:
    if report.convert and known.converted:
        report.refuse(STILL_NO_ONNX.reason, STILL_NO_ONNX.advice)
    if report.convert:
        converting.begin(version, report.convert, [*known.steps, *report.steps])
        return
    if report.accepted is None:
        versions.reject(version.pk, report=known.published(report))
        return
    checked = Checked(
        format=report.accepted.format,
        sha256=sha256,
        size_bytes=artifact.stat().st_size,
        signature=_tensors(report.accepted, _described(known, report.accepted, artifact)),
        decoupled=report.accepted.decoupled,
        source_format=known.source,
    )
    try:
        versions.accept(version.pk, checked=checked, report=known.published(report))
    except ValidationProblem as problem:
        report.refuse(problem.message, "Change the model's inputs and outputs, and export it again.")
        versions.reject(version.pk, report=known.published(report))


def _described(known: Known, accepted: Accepted, artifact: Path) -> Mapping[str, Described]:
    """What nobody has to say of a version's tensors: our own steps know theirs, and a conversion may find labels."""
    if accepted.format == "ensemble":
        return read_ensemble(artifact.read_bytes()).described()
    widths = {spec.name: spec.shape[-1] for spec in accepted.outputs}
    return {
        name: Described(CLASS_SCORES, labels)
        for name, labels in known.labels.items()
        if widths.get(name) == len(labels)
    }


def _tensors(accepted: Accepted, described: Mapping[str, Described]) -> list[Tensor]:
    return [
        Tensor(
            direction,
            spec.name,
            spec.datatype.value,
            spec.shape,
            content_type=described[spec.name].content_type if spec.name in described else None,
            labels=(described[spec.name].labels or None) if spec.name in described else None,
        )
        for direction, specs in ((Direction.INPUT, accepted.inputs), (Direction.OUTPUT, accepted.outputs))
        for spec in specs
    ]


@functools.cache
def _sandbox() -> Sandbox:
    """One for each worker, started at its first check."""
    return Sandbox()


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
