"""A hostile set: each artefact is refused for its reason, within the limits, and nothing outside notices."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.checks.checker import check
from inference.checks.sandbox import MIB, Limits, Sandbox
from tests.inference.checks import crafted, hostile

# A loop is as endless after a second as after seven.
ONE_SECOND = Limits(cpu_seconds=1)
SET = [*hostile.everything(), *crafted.everything()]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    before = forkservers()
    with Sandbox() as opened:
        yield opened
    assert forkservers() == before


def servers() -> set[int]:
    """The processes of Triton."""
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if command.read_bytes().split(b"\0")[0].endswith(b"tritonserver"):
                found.add(int(command.parent.name))
    return found


@pytest.fixture(scope="module", autouse=True)
def _nothing_else_notices(triton: str) -> Iterator[None]:
    """The one Triton that the tests run beside is the same afterwards."""
    port = triton.rpartition(":")[2]

    def ours() -> set[int]:
        return {pid for pid in servers() if port.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()}

    before = ours()
    assert len(before) == 1
    yield
    assert ours() == before


def forkservers() -> set[int]:
    """Of the sandboxes that this process has open, with their children."""
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            session = int((command.parent / "stat").read_text().rpartition(")")[2].split()[3])
            if b"forkserver.py" in command.read_bytes() and parent_of(session) == os.getpid():
                found.add(int(command.parent.name))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def canary() -> Iterator[Path]:
    """Where some of the artefacts point, and where others would write."""
    path = Path("/tmp") / hostile.CANARY
    path.write_text("the canary sings")
    yield path
    path.unlink()


def test_the_set_is_large() -> None:
    assert len(SET) >= 290
    assert len({name for name, _content, _reason in SET}) == len(SET)


@pytest.mark.parametrize(("content", "reason"), [pytest.param(c, r, id=n) for n, c, r in SET])
def test_it_is_refused(sandbox: Sandbox, canary: Path, tmp_path: Path, content: bytes, reason: str) -> None:
    artifact = tmp_path / "artifact"
    artifact.write_bytes(content)

    report = check(sandbox, artifact, limits=ONE_SECOND)

    assert report.accepted is None
    assert re.search(reason, report.reason), report.reason
    assert report.advice
    assert report.facts["peak_bytes"] <= 512 * MIB
    assert "canary sings" not in json.dumps(report.as_json())
    assert canary.read_text() == "the canary sings"
    assert os.listdir(tmp_path) == ["artifact"]


def test_what_is_only_mutated_is_refused_or_sound(sandbox: Sandbox, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    refused = 0
    for content in hostile.mutated(60):
        artifact.write_bytes(content)
        report = check(sandbox, artifact, limits=ONE_SECOND)
        assert bool(report.accepted) != bool(report.reason)
        assert report.facts["peak_bytes"] <= 512 * MIB
        refused += bool(report.reason)
    assert refused >= 20
