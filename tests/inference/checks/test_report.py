"""What the child tells is not believed: whatever comes, the report keeps its form and its bounds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.checks.report import MAX_OPERATORS, MAX_STEPS, MAX_TEXT, STEPS, Report

SPEC = ["x", "FP32", [-1]]
ACCEPTED = {"format": "onnx", "inputs": [SPEC], "outputs": [["y", "INT64", [2, 3]]], "decoupled": False}


def passed(name: str) -> list[dict[str, Any]]:
    return [
        {"step": name, "status": "running"},
        {"step": name, "status": "passed", "detail": "well", "seconds": 0.5},
    ]


def test_steps_come_in_their_order_with_those_still_to_come() -> None:
    report = Report()
    for line in passed("format"):
        report.hear(line)
    report.hear({"step": "parse", "status": "running"})
    assert [step["status"] for step in report.as_json()["steps"]] == ["passed", "running"] + ["pending"] * 5
    assert [step["name"] for step in report.as_json()["steps"]] == list(STEPS)


def test_a_step_that_does_not_run_cannot_pass() -> None:
    report = Report()
    assert not report.hear({"step": "trial", "status": "passed", "detail": "", "seconds": 0})
    assert report.steps == []


@pytest.mark.parametrize("name", ["evil", None, 5, ["format"], {"a": 1}, "x" * 10**6])
def test_there_are_no_other_steps(name: Any) -> None:
    report = Report()
    report.hear({"step": name, "status": "running"})
    assert report.steps == []


def test_nothing_is_heard_after_the_end() -> None:
    report = Report()
    report.hear({"refused": {"reason": "Bad.", "advice": "Mend it."}})
    report.hear({"accepted": ACCEPTED})
    report.hear({"convert": "tflite"})
    assert (report.reason, report.accepted, report.convert) == ("Bad.", None, "")


def test_texts_are_one_printable_line() -> None:
    report = Report()
    report.hear({"refused": {"reason": "a\x00\x1b[31m\nb\u202ec" + "d" * 10**6, "advice": 5}})
    assert report.reason.startswith("a [31m b c")
    assert len(report.reason) <= MAX_TEXT
    assert report.advice == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "python"},
        {"inputs": []},
        {"inputs": None},
        {"inputs": [["x", "FP8", [-1]]]},
        {"inputs": [["", "FP32", [-1]]]},
        {"inputs": [["x" * 300, "FP32", [-1]]]},
        {"inputs": [["x", "FP32", [-2]]]},
        {"inputs": [["x", "FP32", [2**63]]]},
        {"inputs": [["x", "FP32", [True]]]},
        {"inputs": [["x", "FP32", "12"]]},
        {"inputs": [[5, "FP32", [1]]]},
        {"inputs": [["x", "FP32", [1] * 100]]},
        {"outputs": [SPEC] * 2000},
        {"outputs": "xyz"},
    ],
)
def test_an_impossible_signature_is_not_taken(changed: dict[str, Any]) -> None:
    report = Report()
    report.hear({"accepted": ACCEPTED | changed})
    assert report.accepted is None


def test_nothing_is_accepted_in_the_middle_of_a_step() -> None:
    report = Report()
    report.hear({"step": "parse", "status": "running"})
    report.hear({"accepted": ACCEPTED})
    assert report.accepted is None


def test_facts_are_bounded() -> None:
    report = Report()
    report.hear({"facts": {"operators": {f"Op{number}": 1 for number in range(5000)}, "evil": "x" * 10**6}})
    report.hear({"facts": {"parameters": 2**80, "producer": "p" * 10**6, "trial_seconds": float("inf")}})
    assert len(report.facts["operators"]) == MAX_OPERATORS
    assert set(report.facts) == {"operators", "parameters", "producer", "trial_seconds"}
    assert len(json.dumps(report.as_json())) < 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.sampled_from(["step", "status", "detail", "seconds", "facts", "refused", "convert", "accepted", "opset"])


@given(st.lists(st.dictionaries(WORDS, JSON | st.sampled_from([*STEPS, "running", "passed"])), max_size=20))
def test_whatever_comes_the_report_is_sound(lines: list[dict[str, Any]]) -> None:
    report = Report()
    for line in lines:
        report.hear(line)
    steps = report.as_json()["steps"]
    assert len(steps) <= MAX_STEPS + len(STEPS)
    assert all(isinstance(step["detail"], str) and step["seconds"] >= 0 for step in steps)
    assert isinstance(report.reason, str)
