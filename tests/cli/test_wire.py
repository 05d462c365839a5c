"""How the command bears with a network and a marketplace that are not well; each way to fail has an exit code."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stub import KEY, Answer, marketplace, stub

DIGITS = {
    "ref": "openlab/digits",
    "displayName": "Digits",
    "liveVersion": {"number": 1},
    "canaryVersion": None,
    "canaryPercent": 0,
    "shadowVersion": None,
    "shadowPercent": 0,
    "versions": {"edges": [{"node": {"number": 1, "status": "LIVE", "createdAt": "2026-01-02T03:04:05Z"}}]},
}
FOUND = Answer({"data": {"model": DIGITS}})
ROLLED_BACK = Answer({"data": {"rollbackModel": {"model": {"liveVersion": {"number": 1}}, "errors": []}}})
STATUS, ROLLBACK = ("status", "openlab/digits"), ("rollback", "openlab/digits")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("words", "done"), [(STATUS, FOUND), (ROLLBACK, ROLLED_BACK)], ids=["query", "mutation"])
def test_what_was_not_done_is_asked_for_again(
    tmp_path: Path, status: int, words: tuple[str, ...], done: Answer
) -> None:
    with stub(Answer(status=status, headers={"Retry-After": "0"}), done) as site:
        ended = marketplace(*words, url=site.url, cache=tmp_path)
    assert (ended.returncode, len(site.asked)) == (0, 2), ended.stderr


def test_retry_after_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("cli")
    from marketplace_cli import site as wire  # noqa: PLC0415  (on no path but this test's)

    slept: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", slept.append)
    with stub(Answer(status=503, headers={"Retry-After": "7"}), Answer(status=503), FOUND) as site:
        wire.Site(site.url, KEY).ask("query { viewer { id } }")
    assert slept == [7.0, 1.0]


def test_a_problem_that_says_when_is_asked_for_again(tmp_path: Path) -> None:
    later = {"code": "RATE_LIMITED", "message": "Too fast.", "path": None, "retryAfterMs": 1}
    with stub(Answer({"data": {"rollbackModel": {"model": None, "errors": [later]}}}), ROLLED_BACK) as site:
        ended = marketplace(*ROLLBACK, url=site.url, cache=tmp_path)
    assert (ended.returncode, len(site.asked)) == (0, 2)


def test_a_query_outlives_a_cut(tmp_path: Path) -> None:
    with stub(Answer(cut=True), FOUND) as site:
        ended = marketplace(*STATUS, url=site.url, cache=tmp_path)
    assert (ended.returncode, len(site.asked)) == (0, 2)


def test_a_mutation_is_never_sent_twice_blindly(tmp_path: Path) -> None:
    with stub(Answer(cut=True), ROLLED_BACK) as site:
        ended = marketplace(*ROLLBACK, url=site.url, cache=tmp_path)
    assert (ended.returncode, len(site.asked)) == (5, 1)
    assert "Whether it was done is not known" in ended.stderr


def test_the_key_does_not_follow_to_another_address(tmp_path: Path) -> None:
    with stub(FOUND) as other, stub(Answer(status=307, headers={"Location": other.url})) as site:
        ended = marketplace(*STATUS, url=site.url, cache=tmp_path)
    assert ended.returncode == 5
    assert other.url in ended.stderr
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (
            Answer({"errors": [{"message": "No such key.", "extensions": {"code": "UNAUTHENTICATED"}}]}, 401),
            1,
            "No such",
        ),
        (Answer({"data": {"model": None}}), 1, "There is no model openlab/digits"),
        (Answer({"data": None}), 5, "without data"),
        (Answer("a page"), 5, "not as a marketplace does"),
        (Answer(status=404), 5, "answered 404"),
    ],
    ids=["refused", "missing", "empty", "no marketplace", "no page"],
)
def test_how_it_fails(tmp_path: Path, answer: Answer, code: int, told: str) -> None:
    with stub(answer) as site:
        ended = marketplace(*STATUS, url=site.url, cache=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert told in ended.stderr
    assert KEY not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("status", "digits"),
        ("wait", "openlab/digits"),
        ("release", "openlab/digits@x"),
        ("release", "openlab/digits@1", "--canary", "101"),
        ("push", "openlab/digits", "/nothing/here.onnx"),
        ("status", "openlab/digits", "--url", "file:///etc"),
        (),
    ],
    ids=" ".join,
)
def test_wrong_usage_asks_nobody(tmp_path: Path, words: tuple[str, ...]) -> None:
    with stub(FOUND) as site:
        ended = marketplace(*words, url=site.url, cache=tmp_path)
    assert (ended.returncode, site.asked) == (2, []), ended.stderr


def test_no_key_is_said(tmp_path: Path) -> None:
    ended = marketplace(*STATUS, url="http://127.0.0.1:9", cache=tmp_path, key=None)
    assert (ended.returncode, "MARKETPLACE_API_KEY" in ended.stderr) == (2, True)


def test_what_others_wrote_moves_no_cursor(tmp_path: Path) -> None:
    with stub(Answer({"data": {"model": DIGITS | {"displayName": "\x1b[2J\x1b]0;title\x07"}}})) as site:
        ended = marketplace(*STATUS, url=site.url, cache=tmp_path)
    assert "\x1b" not in ended.stdout
    assert "\x07" not in ended.stdout


def test_json_is_all_of_the_output(tmp_path: Path) -> None:
    with stub(FOUND) as site:
        found: dict[str, Any] = json.loads(marketplace(*STATUS, "--json", url=site.url, cache=tmp_path).stdout)
    assert found["liveVersion"] == {"number": 1}
    assert "text" not in found


def test_it_needs_nothing_but_the_standard_library() -> None:
    folder = Path(__file__).resolve().parents[2] / "cli/marketplace_cli"
    lines = [line.split() for file in folder.glob("*.py") for line in file.read_text().splitlines()]
    imported = {words[1].split(".")[0] for words in lines if words[:1] in (["import"], ["from"])}
    assert imported - {""} <= sys.stdlib_module_names
