"""What a supervisor that was killed has left running."""

import contextlib
import os
import select
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from .process import MARK

Step = tuple[signal.Signals, float]
POLITE: tuple[Step, ...] = ((signal.SIGTERM, 10), (signal.SIGKILL, 5))


def end_all(data_dir: Path) -> list[int]:
    """End every process that carries this data folder's mark. Returns their ids."""
    pids = list(_marked(data_dir))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, POLITE[0][0])
    for pid in pids:
        end(pid, POLITE)
    return pids


def end(pid: int, steps: Iterable[Step]) -> None:
    """Send one signal after the other until the process, which need not be our child, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number, seconds in steps:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], seconds)[0]:
                return
    finally:
        os.close(descriptor)


def _marked(data_dir: Path) -> Iterator[int]:
    mark = f"{MARK}={data_dir}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        # Another user's environment is none of our business, and a process may end while we look.
        with contextlib.suppress(OSError):
            if pid != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                yield pid
