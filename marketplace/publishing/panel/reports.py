"""What the checks of a version found, in a publisher's words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.catalog.models import ModelVersion, ModelVersionStatus

STEPS: dict[str, Promise] = {
    "format": gettext_lazy("What kind of file it is"),
    "convert": gettext_lazy("Converted to ONNX"),
    "parse": gettext_lazy("The graph is sound"),
    "operators": gettext_lazy("Operators that may be used"),
    "sizes": gettext_lazy("Its tensors fit into memory"),
    "signature": gettext_lazy("What it takes and gives"),
    "load": gettext_lazy("The runtime loads it"),
    "ensemble": gettext_lazy("Its models fit together"),
    "trial": gettext_lazy("A trial run"),
}
# What is told of a step: a word, and the colour and the symbol of its label.
STATUSES: dict[str, tuple[Promise, str, str]] = {
    "pending": (gettext_lazy("waits"), "", "schedule"),
    "running": (gettext_lazy("runs"), "info", "hourglass_top"),
    "passed": (gettext_lazy("passed"), "success", "check"),
    "failed": (gettext_lazy("failed"), "danger", "close"),
    "skipped": (gettext_lazy("skipped"), "", "remove"),
}
MOST_OPERATORS = 12


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    status: str
    colour: str
    icon: str
    detail: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """`done` of `total` steps have ended; `now` is the one that runs. `facts`: what each is called, and what it is."""

    under_way: bool
    rejected: bool
    steps: list[Step]
    done: int
    total: int
    now: str
    reason: str
    advice: str
    facts: list[tuple[str, str]]


def report_of(version: ModelVersion) -> Report:
    """Of a version that nobody had to check (the operator vouches for it) there are no steps."""
    found: Mapping[str, Any] = version.report
    steps = found.get("steps", [])
    return Report(
        under_way=version.status == ModelVersionStatus.VALIDATING,
        rejected=version.status == ModelVersionStatus.REJECTED,
        steps=[_step(step) for step in steps],
        done=sum(step["status"] in ("passed", "failed", "skipped") for step in steps),
        total=len(steps),
        now=next((_name(step) for step in steps if step["status"] == "running"), ""),
        reason=found.get("reason", ""),
        advice=found.get("advice", ""),
        facts=_facts(found.get("facts", {})),
    )


def _step(step: Mapping[str, Any]) -> Step:
    told, colour, icon = STATUSES.get(step["status"], (step["status"], "", "help"))
    return Step(_name(step), str(told), colour, icon, step.get("detail", ""), step.get("seconds") or None)


def _name(step: Mapping[str, Any]) -> str:
    return str(STEPS.get(step["name"], step["name"]))


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = {
        _("Operator sets"): ", ".join(
            f"{domain or 'ai.onnx'} {number}" for domain, number in facts.get("opset", {}).items()
        ),
        _("IR version"): str(facts.get("ir_version") or ""),
        _("Made by"): facts.get("producer") or "",
        _("Operators"): _operators(facts.get("operators", {})),
        _("Parameters"): number_format(facts["parameters"], force_grouping=True) if "parameters" in facts else "",
        _("Memory at most, in the trial run"): filesizeformat(facts["peak_bytes"]) if facts.get("peak_bytes") else "",
        _("Trial run"): _("%(seconds).2f s") % {"seconds": facts["trial_seconds"]} if "trial_seconds" in facts else "",
    }
    return [(name, fact) for name, fact in told.items() if fact]


def _operators(counts: Mapping[str, int]) -> str:
    """The most frequent ones first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{name} × {count}" if count > 1 else name for name, count in ordered[:MOST_OPERATORS]]
    more = len(ordered) - MOST_OPERATORS
    return ", ".join([*told, _("and %(count)d more") % {"count": more}] if more > 0 else told)
