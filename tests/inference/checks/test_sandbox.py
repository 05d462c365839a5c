"""Hostile code in the sandbox: it can compute, for a while, in little memory, and tell. Nothing else."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.checks.checker import check
from inference.checks.sandbox import MAX_TOLD_BYTES, MIB, PROJECT, Limits, Outcome, Sandbox, SandboxFailed

ATTEMPT = "tests.inference.checks.attempts:attempt"
CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(ATTEMPT) as opened:
        yield opened


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "artifact"
    path.write_text("the artefact")
    return path


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.write_text(CANARY)
    path.chmod(0o644)
    return path


def attempt(
    sandbox: Sandbox, artifact: Path, what: str, limits: Limits | None = None, **given: Any
) -> tuple[Outcome, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    outcome = sandbox.run(artifact, limits or Limits(), lines.append, given={"what": what, **given})
    assert lines[0] == {"confined": True}
    return outcome, lines[1:]


def test_it_reads_its_artefact(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "read_artifact")
    assert told == [{"result": "the artefact"}]
    assert (outcome.ended, outcome.code) == ("exit", 0)


@pytest.mark.parametrize("what", ["read", "list", "stat", "write"])
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/", "canary"])
def test_no_path_leads_anywhere(sandbox: Sandbox, artifact: Path, canary: Path, what: str, path: str) -> None:
    _outcome, told = attempt(sandbox, artifact, what, path=str(canary) if path == "canary" else path)
    assert [line["name"] for line in told] == ["PermissionError"]
    assert canary.read_text() == CANARY


def test_not_even_past_the_c_library(sandbox: Sandbox, artifact: Path, canary: Path) -> None:
    _outcome, told = attempt(sandbox, artifact, "read_by_system_call", path=str(canary))
    assert told == [{"result": [-1, -1, -1]}]


def test_the_artefact_is_only_to_be_read(sandbox: Sandbox, artifact: Path) -> None:
    _outcome, told = attempt(sandbox, artifact, "write_artifact")
    assert told[0]["error"] in {errno.EPERM, errno.EBADF}
    assert artifact.read_text() == "the artefact"


def test_it_holds_no_descriptor_but_its_own(sandbox: Sandbox, artifact: Path) -> None:
    (told,) = attempt(sandbox, artifact, "descriptors")[1]
    assert len(told["result"]) == 2


def test_its_environment_has_no_secret(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", CANARY)
    with Sandbox(ATTEMPT) as fresh:
        (told,) = attempt(fresh, artifact, "environment")[1]
    assert set(told["result"]) <= {"LANG", "LC_CTYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    assert CANARY not in str(told)


def test_it_reaches_no_network(sandbox: Sandbox, artifact: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        _outcome, told = attempt(sandbox, artifact, "connect", port=server.getsockname()[1])
        assert told[0]["name"] == "PermissionError"
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("what", ["execute", "thread", "kill_parent", "lift_limits"])
def test_it_starts_ends_and_changes_nothing(sandbox: Sandbox, artifact: Path, what: str) -> None:
    _outcome, told = attempt(sandbox, artifact, what, pid=os.getpid())
    assert told[0]["name"] in {"PermissionError", "RuntimeError", "BlockingIOError", "ValueError"}


def test_it_makes_no_namespaces(sandbox: Sandbox, artifact: Path) -> None:
    assert attempt(sandbox, artifact, "unshare")[1] == [{"result": -1}]


def test_a_fork_bomb_does_not_go_off(sandbox: Sandbox, artifact: Path) -> None:
    assert attempt(sandbox, artifact, "fork_bomb")[1] == [{"result": 1000}]


def test_memory_ends_before_the_limit(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "fill_memory", mebibytes=4096)
    assert told == [{"name": "MemoryError"}]
    assert 256 * MIB < outcome.peak_bytes <= 512 * MIB


def test_shared_memory_counts_too(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "share_memory", mebibytes=4096)
    assert "result" not in (told or [{}])[0]
    assert outcome.peak_bytes <= 512 * MIB


def test_what_does_not_end_is_ended_by_its_cpu_time(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "spin", Limits(cpu_seconds=1))
    assert (outcome.ended, told) == ("timeout", [])
    assert outcome.cpu_seconds < 2.5


def test_it_may_set_itself_less_of_it(sandbox: Sandbox, artifact: Path) -> None:
    outcome, _told = attempt(sandbox, artifact, "spin_timed", Limits(cpu_seconds=600, seconds=600))
    assert outcome.ended == "timeout"


def test_also_when_it_does_not_want_to_hear_of_it(sandbox: Sandbox, artifact: Path) -> None:
    outcome, _told = attempt(sandbox, artifact, "spin_deaf", Limits(cpu_seconds=1))
    assert outcome.ended == "timeout"
    assert outcome.cpu_seconds < 4


def test_what_sleeps_is_ended_by_the_clock(sandbox: Sandbox, artifact: Path) -> None:
    outcome, _told = attempt(sandbox, artifact, "sleep", Limits(seconds=0.5))
    assert outcome.ended == "timeout"


def test_who_tells_too_much_is_not_listened_to(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "chatter")
    assert sum(len(line["word"]) for line in told) <= MAX_TOLD_BYTES + 64 * 1024
    assert outcome.code != 0


def test_what_is_not_an_object_is_not_heard(sandbox: Sandbox, artifact: Path) -> None:
    assert attempt(sandbox, artifact, "babble")[1] == [{"result": "said"}]


def test_a_crash_is_the_childs_alone(sandbox: Sandbox, artifact: Path) -> None:
    outcome, told = attempt(sandbox, artifact, "crash")
    assert (outcome.ended, outcome.code, told) == ("signal", signal.SIGSEGV, [])
    assert attempt(sandbox, artifact, "read_artifact")[1] == [{"result": "the artefact"}]


def test_a_machine_where_nothing_can_be_confined_checks_nothing(artifact: Path) -> None:
    """A limit that no kernel knows: the child gives up before it looks at anything."""
    with Sandbox() as opened, pytest.raises(SandboxFailed, match="could not confine itself"):
        check(opened, artifact, limits=Limits(cpu_seconds=2**70))


def test_the_default_limits_are_those_that_were_promised() -> None:
    for size in (0, 92, 311, MIB):
        limits = Limits.for_size(size)
        assert limits.seconds <= 10
        assert limits.memory_bytes <= 512 * MIB
    assert Limits.for_size(200 * MIB).memory_bytes > 512 * MIB


def children_of(pid: int) -> set[int]:
    found = set()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_survives_a_worker_that_is_killed(artifact: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from inference.checks.sandbox import *\n"
        f"Sandbox({ATTEMPT!r}).run(Path({str(artifact)!r}), Limits(cpu_seconds=600, seconds=600),\n"
        "    lambda line: print('runs', flush=True), given={'what': 'sleep'})"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"runs\n"
    (server,) = children_of(worker.pid)
    (child,) = children_of(server)

    worker.kill()
    worker.wait()
    worker.stdout.close()

    deadline = time.monotonic() + 30
    while (is_alive(server) or is_alive(child)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(server)
    assert not is_alive(child)


def test_a_sandbox_that_was_closed_leaves_nobody_behind(artifact: Path) -> None:
    before = children_of(os.getpid())
    with Sandbox(ATTEMPT) as opened:
        attempt(opened, artifact, "read_artifact")
        (server,) = children_of(os.getpid()) - before
    assert not is_alive(server)


def test_an_ordinary_user_is_as_confined_as_root(artifact: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("this is an ordinary user already")
    code = (
        "import sys; from pathlib import Path; from inference.checks.sandbox import *\n"
        f"sandbox = Sandbox({ATTEMPT!r})\n"
        "for what in ('read', 'fork_bomb', 'read_artifact'):\n"
        "    sandbox.run(Path(sys.argv[1]), Limits(), print, given={'what': what, 'path': '/etc/passwd'})"
    )
    without_privilege = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    done = subprocess.run(
        [*without_privilege, sys.executable, "-c", code, str(artifact)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if "confined" not in line]
    assert told == [
        f"{{'error': {errno.EPERM}, 'name': 'PermissionError'}}",
        "{'result': 1000}",
        "{'result': 'the artefact'}",
    ], done.stderr
