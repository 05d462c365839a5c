"""Running our own code on what strangers made: in a process that can do nothing but compute (confinement.py)."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROJECT = Path(__file__).parents[2]
ENTRY = "inference.checks.examination:examine"

MAX_TOLD_BYTES = 4 * 1024**2
MIB = 1024**2
# How long the fork server may take to say that a child is dead.
GRACE_SECONDS = 10

# All that a child knows of the worker's environment. numpy's threads would be of no use to it, and it can start none.
ENVIRONMENT = {"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class SandboxFailed(OSError):
    """The sandbox itself broke or cannot be had here; that says nothing of the artefact."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory_bytes` of the whole process, as the kernel counts what is resident; `seconds` by the clock."""

    memory_bytes: int = 480 * MIB
    cpu_seconds: int = 7
    seconds: float = 9

    @classmethod
    def for_size(cls, size_bytes: int) -> Self:
        """An honest model is held six times over at most (in a zip, unpacked, parsed, checked, loaded, packed anew)."""
        own = cls()
        return cls(
            own.memory_bytes + 7 * max(0, size_bytes - MIB),
            own.cpu_seconds + size_bytes // (32 * MIB),
            own.seconds + size_bytes / (32 * MIB),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: "exit", "signal" or "timeout"; what it used of time and memory at most, in seconds and bytes."""

    ended: str
    code: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Sandbox:
    """Runs one artefact after another, each in a fresh process. `entry` is `module:function`, as forkserver.py has it.

    Start it in the process that uses it, not in one that forks; it is a context manager, and safe to share between
    threads, which wait for each other.
    """

    def __init__(self, entry: str = ENTRY) -> None:
        self.entry = entry
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def run(
        self, artifact: Path, limits: Limits, on_line: Callable[[dict[str, Any]], None], *, given: Any = None
    ) -> Outcome:
        """`on_line` gets each JSON object that the child tells, as soon as it does. It is not to be believed.

        Raises SandboxFailed.
        """
        with self._lock, artifact.open("rb") as opened:
            try:
                return self._run(opened.fileno(), limits, on_line, given)
            except (OSError, ValueError) as error:
                self.close()
                raise SandboxFailed(f"the sandbox failed: {error}") from error
            except BaseException:
                self.close()  # an answer that nobody has read would be taken for the next one's
                raise

    def close(self) -> None:
        if self._orders is not None:
            self._orders.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._orders = self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, artifact: int, limits: Limits, on_line: Callable[[dict[str, Any]], None], given: Any) -> Outcome:
        orders = self._started()
        order = {
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": limits.cpu_seconds,
            "seconds": limits.seconds,
            "given": given,
        }
        told, teller = os.pipe()
        try:
            try:
                socket.send_fds(orders, [json.dumps(order).encode()], [artifact, teller])
            finally:
                os.close(teller)
            deadline = time.monotonic() + limits.seconds + GRACE_SECONDS
            _read_lines(told, deadline, on_line)
        finally:
            os.close(told)
        orders.settimeout(max(1, deadline - time.monotonic()))
        answer = orders.recv(64 * 1024)
        if not answer:
            raise SandboxFailed("the fork server died")
        return Outcome(**json.loads(answer))

    def _started(self) -> socket.socket:
        if self._orders is not None and self._server is not None and self._server.poll() is None:
            return self._orders
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("forkserver.py")), str(PROJECT), self.entry],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._orders = ours
        return ours


def _read_lines(told: int, deadline: float, on_line: Callable[[dict[str, Any]], None]) -> None:
    """Until the child has closed its end, told too much, or is long overdue. What is no JSON object is nothing."""
    os.set_blocking(told, False)
    received, waiting = 0, b""
    while received <= MAX_TOLD_BYTES and (left := deadline - time.monotonic()) > 0:
        if not select.select([told], [], [], left)[0]:
            return
        chunk = os.read(told, 64 * 1024)
        if not chunk:
            return
        received += len(chunk)
        *lines, waiting = (waiting + chunk).split(b"\n")
        for line in lines:
            parsed = None
            with contextlib.suppress(ValueError, RecursionError):
                parsed = json.loads(line)
            if isinstance(parsed, dict):
                on_line(parsed)
