"""A child process that never outlives us and leaves no children of its own behind."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, Self

from .service import Service

PROJECT = Path(__file__).resolve().parents[2]
# By this variable a supervisor that starts after a killed one recognises what that one left running.
MARK = "MARKETPLACE_SUPERVISED"
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def dying_with_us(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends the child this signal when the thread that started it, our main one, ends."""
    us = os.getpid()

    def ask() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != us:
            os._exit(1)

    return ask


class Journal(Protocol):
    def line(self, source: str, text: str) -> None: ...
    async def follow(self, source: str, output: asyncio.StreamReader, noise: tuple[str, ...]) -> None: ...


class Process:
    """One run of a service, its output in the journal."""

    def __init__(
        self,
        service: Service,
        process: asyncio.subprocess.Process,
        pipe: asyncio.ReadTransport,
        following: asyncio.Task[None],
    ) -> None:
        self.service = service
        self.pid = process.pid
        self._process = process
        self._pipe = pipe
        self._following = following
        self._gone = False

    @classmethod
    async def start(cls, service: Service, environment: Mapping[str, str], journal: Journal) -> Self:
        """Raises OSError when there is no such program."""
        await asyncio.to_thread(service.sweep)
        await asyncio.to_thread(service.prepare)
        # Our own pipe: asyncio's would have its end wait for that of every grandchild that still holds it, and Triton's
        # outlive a SIGKILL.
        ours, theirs = os.pipe()
        output = asyncio.StreamReader()
        pipe, _protocol = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb", buffering=0)
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *service.argv,
                env={**environment, **service.environment},
                cwd=PROJECT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                # A group of its own: Ctrl-C in the terminal reaches us alone, and we stop all in the right order.
                start_new_session=True,
                preexec_fn=dying_with_us(service.stop_signal),
            )
        except BaseException:
            pipe.close()
            raise
        finally:
            os.close(theirs)
        return cls(service, process, pipe, asyncio.create_task(journal.follow(service.name, output, service.noise)))

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def ending(self) -> str:
        """How it ended, in words that follow its name."""
        code = self._process.returncode
        if code is None:
            return "did not answer"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    async def wait(self) -> int:
        """Its exit status, once nothing of it is left: its process group has ended, its last words are in the journal.

        Negative for the signal that ended it.
        """
        code = await self._process.wait()
        self.kill()
        # From here on its number may be given to a stranger.
        self._gone = True
        # What has left the group may still hold the pipe open: PostgreSQL's own children, for the moment they need.
        await asyncio.wait([self._following], timeout=self.service.stop_seconds)
        self._following.cancel()
        self._pipe.close()
        return code

    async def stop(self) -> bool:
        """Ask it to end, and after `stop_seconds` make it. Whether asking was enough."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.service.stop_signal)
        try:
            async with asyncio.timeout(self.service.stop_seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self.wait()
            return False
        await self.wait()
        return True

    def kill(self) -> None:
        """End it and everything in its process group at once."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
