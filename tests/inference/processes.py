"""The processes in which Triton's Python backend runs models."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def processes_of(model: str, instance: int = 0) -> list[int]:
    """The processes that Triton runs an instance of the model in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"triton_python_backend_stub") and f"{model}_0_{instance}".encode() in arguments:
            found.append(int(process.name))
    return found


def worked(process: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Silence:
    """A log that keeps nothing of what a server says."""

    def line(self, source: str, text: str) -> None:
        pass

    async def follow(self, source: str, output: asyncio.StreamReader, noise: tuple[str, ...]) -> None:
        while await output.read(2**16):
            pass


@contextmanager
def paused(model: str) -> Iterator[None]:
    """It answers nothing meanwhile."""
    processes = processes_of(model)
    assert processes
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
