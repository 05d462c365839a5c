"""From an artefact in a file to a report that says what it is or why it is refused."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .refusal import Refused
from .report import Report
from .sandbox import Limits, Sandbox, SandboxFailed

log = logging.getLogger(__name__)

TOO_SLOW = Refused(
    "The check was not over after {seconds:.0f} seconds, in the step “{step}”: a run of the model does not end, or "
    "takes too long.",
    "Look for a Loop whose condition never becomes false, and for work that does not depend on the input. A model that "
    "is that slow on its smallest input cannot be served here.",
)
BROKE = Refused(
    "The model's checks broke off in the step “{step}”: whatever reads it crashes, or has not enough memory.",
    "Try `onnx.checker.check_model` and `onnxruntime.InferenceSession` on it; export it again with another opset.",
)
LONG_NAMES = Refused(
    "The names or shapes of the model's inputs and outputs are none that could be called.",
    "Give each a name of 1 to 255 characters and a shape of at most 64 dimensions.",
)


def check(
    sandbox: Sandbox,
    artifact: Path,
    *,
    limits: Limits | None = None,
    progress: Callable[[dict[str, Any]], None] = lambda report: None,
) -> Report:
    """`progress` gets the report whenever a step begins or ends. Raises SandboxFailed: not the artefact's fault."""
    limits = limits or Limits.for_size(artifact.stat().st_size)
    report = Report()

    confined = False

    def hear(line: dict[str, Any]) -> None:
        nonlocal confined
        confined = confined or line == {"confined": True}
        if report.hear(line):
            progress(report.as_json())

    outcome = sandbox.run(artifact, limits, hear)
    if not confined:
        raise SandboxFailed("the child could not confine itself, and looked at nothing")
    report.facts["peak_bytes"] = outcome.peak_bytes
    if report.reason:
        return report
    step = report.latest
    if outcome.ended == "timeout":
        report.refuse(TOO_SLOW.reason.format(seconds=outcome.seconds, step=step), TOO_SLOW.advice)
    elif outcome.ended == "signal" or outcome.code:
        log.warning("a check ended by %s %d in the step %s", outcome.ended, outcome.code, step)
        report.refuse(BROKE.reason.format(step=step), BROKE.advice)
    elif not (report.accepted or report.convert):
        report.refuse(LONG_NAMES.reason, LONG_NAMES.advice)
    return report
