"""The report of the checks as it grows, from what the child tells; the child is not believed, so all is bounded here.

{"steps": [{"name", "status": "pending" | "running" | "passed" | "failed" | "skipped", "detail", "seconds"}], "reason",
"advice", "facts": {"opset", "ir_version", "producer", "operators", "parameters", "trial_seconds", "peak_bytes"}}; the
reason and the advice only when the artefact is refused.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Any

from inference.tensors import Datatype, TensorSpec

STEPS = ("format", "parse", "operators", "sizes", "signature", "load", "trial")
# Of an ensemble, whose models take the others as often as there are models.
ENSEMBLE = "ensemble"
MAX_STEPS = 128
MAX_TEXT = 1000
MAX_NAME = 255
MAX_TENSORS = 1000
MAX_RANK = 64
MAX_SIZE = 2**40
MAX_OPERATORS = 200
LONGEST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Accepted:
    format: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    decoupled: bool


@dataclass(slots=True)
class Report:
    """What is known so far. `accepted`, `convert` and `reason`: at most one of them, once the child has said so."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    advice: str = ""
    convert: str = ""
    accepted: Accepted | None = None

    @property
    def running(self) -> str:
        """The step under way; "" before the first and after the last."""
        return next((step["name"] for step in self.steps if step["status"] == "running"), "")

    @property
    def latest(self) -> str:
        """The step under way, or the last that was; the first before there was any."""
        return self.steps[-1]["name"] if self.steps else STEPS[0]

    def hear(self, line: dict[str, Any]) -> bool:
        """Takes in a line of the child's; whether it changed anything that a publisher would like to know soon."""
        if self.reason or self.convert or self.accepted:
            return False
        if "step" in line:
            return self._hear_step(line)
        if isinstance(line.get("facts"), dict):
            self._hear_facts(line["facts"])
        elif isinstance(line.get("refused"), dict):
            self.refuse(text(line["refused"].get("reason")), text(line["refused"].get("advice")))
        elif line.get("convert") in ("saved-model", "tflite", "onnx"):
            self.convert = line["convert"]
        elif isinstance(line.get("accepted"), dict):
            self._hear_accepted(line["accepted"])
        return False

    def refuse(self, reason: str, advice: str) -> None:
        self.reason, self.advice = reason or "The artefact cannot be read.", advice
        self.accepted, self.convert = None, ""
        for step in self.steps:
            if step["status"] == "running":
                step["status"] = "failed"

    def as_json(self) -> dict[str, Any]:
        """With the steps that are still to come, and once it is refused those that are left out."""
        known = [step["name"] for step in self.steps]
        to_come = [] if ENSEMBLE in known or self.convert else [name for name in STEPS if name not in known]
        left = "skipped" if self.reason else "pending"
        report: dict[str, Any] = {
            "steps": self.steps + [{"name": name, "status": left, "detail": "", "seconds": 0.0} for name in to_come],
            "facts": self.facts,
        }
        return report | ({"reason": self.reason, "advice": self.advice} if self.reason else {})

    def _hear_step(self, line: dict[str, Any]) -> bool:
        name, status = line["step"], line.get("status")
        if name not in (*STEPS, ENSEMBLE) or len(self.steps) >= MAX_STEPS:
            return False
        if status == "running" and not self.running:
            self.steps.append({"name": name, "status": "running", "detail": "", "seconds": 0.0})
            return True
        if status in ("passed", "failed") and self.running == name:
            self.steps[-1] |= {
                "status": status,
                "detail": text(line.get("detail")),
                "seconds": number(line.get("seconds")),
            }
            return True
        return False

    def _hear_facts(self, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            if name in ("opset", "operators") and isinstance(value, dict):
                counts = [(text(key)[:MAX_NAME], whole(count)) for key, count in value.items()]
                before = self.facts.get(name, {}) if name == "operators" else {}
                merged = {**before, **{key: before.get(key, 0) + count for key, count in counts}}
                self.facts[name] = dict(list(merged.items())[:MAX_OPERATORS])
            elif name == "parameters":
                self.facts[name] = self.facts.get(name, 0) + whole(value)
            elif name == "ir_version":
                self.facts[name] = whole(value)
            elif name == "trial_seconds":
                self.facts[name] = round(self.facts.get(name, 0) + number(value), 4)
            elif name == "producer":
                self.facts[name] = text(value)[:MAX_NAME]

    def _hear_accepted(self, said: dict[str, Any]) -> None:
        inputs, outputs = specs(said.get("inputs")), specs(said.get("outputs"))
        kind = said.get("format")
        if kind in ("onnx", "onnx-archive", "ensemble") and inputs and outputs and not self.running:
            self.accepted = Accepted(kind, inputs, outputs, said.get("decoupled") is True)


def text(value: object) -> str:
    """One line of printable characters, at most MAX_TEXT."""
    if not isinstance(value, str):
        return ""
    kept = (" " if unicodedata.category(each)[0] in "CZ" else each for each in value[: 4 * MAX_TEXT])
    return " ".join("".join(kept).split())[:MAX_TEXT]


def number(value: object) -> float:
    """0 for what is not a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LONGEST_SECONDS:
        return 0.0
    return float(value)


def whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SIZE else 0


def specs(value: object) -> tuple[TensorSpec, ...]:
    """Empty when anything about them is not as it has to be."""
    if not isinstance(value, list) or len(value) > MAX_TENSORS:
        return ()
    try:
        found = tuple(TensorSpec(name, Datatype(datatype), tuple(shape)) for name, datatype, shape in value)
    except (TypeError, ValueError):
        return ()
    sound = all(
        isinstance(spec.name, str)
        and 0 < len(spec.name) <= MAX_NAME
        and len(spec.shape) <= MAX_RANK
        and all(type(size) is int and -1 <= size < MAX_SIZE for size in spec.shape)
        for spec in found
    )
    return found if sound else ()
