"""An upload that is cut goes on where it was: within one command, and in the next one."""

import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.embedded.process import PROJECT
from tests.cli.stub import KEY, Answer, Stub, marketplace, stub

# What is sent at a time, and a file of two pieces and a bit.
PIECE = 4 * 1024 * 1024
CONTENT = os.urandom(1024) * (2 * PIECE // 1024) + b"the rest"
TUS = {"Tus-Resumable": "1.0.0"}


def created(status: str = "PENDING", received: int = 0) -> Answer:
    # By a name of its own, which may not be the one that it was asked by.
    upload = {"id": "upload", "url": "https://elsewhere.example/uploads/1", "status": status, "receivedBytes": received}
    return Answer({"data": {"createUpload": {"upload": upload, "errors": []}}})


def at(offset: int, status: int = 204) -> Answer:
    return Answer(status=status, headers={**TUS, "Upload-Offset": str(offset)})


VERSION = Answer({"data": {"createModelVersion": {"modelVersion": {"id": "v", "number": 3}, "errors": []}}})
CUT = Answer(cut=True)


@pytest.fixture
def artefact(tmp_path: Path) -> str:
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    return str(path)


def push(site: Stub, artefact: str) -> "subprocess.CompletedProcess[str]":
    return marketplace("push", "openlab/digits", artefact, url=site.url, cache=Path(artefact).parent / "cache")


def pieces(site: Stub) -> list[tuple[int, bytes]]:
    return [(int(asked.headers["Upload-Offset"]), asked.body) for asked in site.asked if asked.method == "PATCH"]


def test_it_is_sent_in_pieces_by_tus(artefact: str) -> None:
    answers = (created(), at(PIECE), at(2 * PIECE), at(len(CONTENT)), VERSION)
    with stub(*answers) as site:
        ended = push(site, artefact)
    assert (ended.returncode, ended.stdout) == (0, "openlab/digits@3 is being checked.\n"), ended.stderr
    assert b"".join(body for _offset, body in pieces(site)) == CONTENT
    assert {asked.path for asked in site.asked} == {"/graphql", "/uploads/1"}
    asked = json.loads(site.asked[0].body)["variables"]["input"]
    assert asked == {"sizeBytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}


def test_after_a_cut_it_goes_on_from_what_has_arrived(artefact: str) -> None:
    arrived = PIECE + 4
    answers = (created(), at(PIECE), CUT, at(arrived, 200), at(arrived + PIECE), at(len(CONTENT)), VERSION)
    with stub(*answers) as site:
        ended = push(site, artefact)
    assert ended.returncode == 0, ended.stderr
    assert [offset for offset, _body in pieces(site)] == [0, PIECE, arrived, arrived + PIECE]
    assert [body for offset, body in pieces(site) if offset == arrived] == [CONTENT[arrived : arrived + PIECE]]


def test_the_next_command_goes_on_with_what_the_last_one_left(artefact: str) -> None:
    with stub(created(), at(PIECE), Answer(status=500), Answer(status=500)) as site:
        first = push(site, artefact)
        assert (first.returncode, "Push again" in first.stderr) == (5, True), first.stderr
        site.answers[:] = [at(2 * PIECE, 200), at(len(CONTENT)), VERSION]
        site.asked.clear()
        assert push(site, artefact).returncode == 0
    assert pieces(site) == [(2 * PIECE, b"the rest")]
    assert [asked.method for asked in site.asked] == ["HEAD", "PATCH", "POST"]


def test_an_upload_that_is_gone_begins_anew(artefact: str) -> None:
    with stub(created(), Answer(status=500)) as site:
        assert push(site, artefact).returncode == 5
        site.answers[:] = [Answer(status=404), created(), at(PIECE), at(2 * PIECE), at(len(CONTENT)), VERSION]
        assert push(site, artefact).returncode == 0


def test_what_the_marketplace_has_already_is_not_sent(artefact: str) -> None:
    with stub(created("COMPLETE", len(CONTENT)), VERSION) as site:
        assert push(site, artefact).returncode == 0
    assert pieces(site) == []


@pytest.mark.parametrize(("status", "reason"), [(413, "More came."), (400, "Other bytes.")])
def test_a_refusal_is_told_and_ends_it(artefact: str, status: int, reason: str) -> None:
    with stub(created(), Answer({"error": reason}, status=status)) as site:
        ended = push(site, artefact)
    assert (ended.returncode, reason in ended.stderr) == (1, True)


def test_a_terminal_shows_how_far_it_is(artefact: str) -> None:
    terminal, screen = pty.openpty()
    with stub(created(), at(PIECE), at(2 * PIECE), at(len(CONTENT)), VERSION) as site:
        environment = {"PYTHONPATH": str(PROJECT / "cli"), "MARKETPLACE_URL": site.url, "MARKETPLACE_API_KEY": KEY}
        subprocess.run(
            [sys.executable, "-m", "marketplace_cli", "push", "openlab/digits", artefact],
            env=environment | {"XDG_CACHE_HOME": str(Path(artefact).parent)},
            stdout=subprocess.DEVNULL,
            stderr=screen,
            check=True,
            timeout=60,
        )
    os.close(screen)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "4.2 of 8.4 MB" in shown
    assert "8.4 of 8.4 MB" in shown
