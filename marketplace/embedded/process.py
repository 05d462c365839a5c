"""A child that never outlives us, never leaves children of its own behind, and is started again when it dies."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from .service import Service, StartFailed

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.05
START_SECONDS = 60
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30
# A child that has run this long was well: its next death is not the last one's fault.
SETTLED_SECONDS = 60

_libc = ctypes.CDLL(None, use_errno=True)


class Journal(Protocol):
    def line(self, source: str, text: str) -> None: ...
    async def follow(self, source: str, output: asyncio.StreamReader) -> None: ...


class Child:
    """One service's process. `changed` is told whenever its id appears or goes."""

    def __init__(
        self, service: Service, *, environment: Mapping[str, str], log: Journal, changed: Callable[[], None]
    ) -> None:
        self.service = service
        self.environment = environment
        self.log = log
        self.changed = changed
        self.process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises StartFailed when it ends first or takes longer than a minute: at the start nobody but a person can mend
        what is wrong. From then on it is kept running.
        """
        await self._spawn()
        if not await self._becomes_ready():
            raise StartFailed(
                f"{self.service.name} {self._how_it_ended()} before it was ready; its last words are above."
            )
        self._keeping = asyncio.create_task(self._keep(), name=f"keep {self.service.name}")

    async def stop(self) -> None:
        """Ask it to end, insist when it takes too long, and end whatever it started."""
        if self._keeping:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        if self.process and self.process.returncode is None:
            self._signal(self.service.stop_signal)
            try:
                async with asyncio.timeout(self.service.stop_seconds):
                    await self.process.wait()
            except TimeoutError:
                self._say(f"did not stop within {self.service.stop_seconds:g} s; killing it")
                self.kill()
        await self._reap()

    def kill(self) -> None:
        """End it and everything in its process group at once."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def _spawn(self) -> None:
        await asyncio.to_thread(self.service.prepare)
        us, stop_signal = os.getpid(), self.service.stop_signal

        def die_with_parent() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, stop_signal)
            if os.getppid() != us:
                os._exit(1)

        self.process = await asyncio.create_subprocess_exec(
            *self.service.argv,
            env={**self.environment, **self.service.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A group of its own: Ctrl-C in the terminal reaches us alone, and we stop all in the right order.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        assert self.process.stdout is not None  # noqa: S101  (PIPE, above)
        self._following = asyncio.create_task(self.log.follow(self.service.name, self.process.stdout))
        self.changed()

    async def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while (pid := self.pid) is not None and time.monotonic() < deadline:
            if await self.service.ready(pid):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            assert self.process is not None  # noqa: S101  (started by now)
            started = time.monotonic()
            await self.process.wait()
            await self._reap()
            if time.monotonic() - started > SETTLED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._say(f"{self._how_it_ended()}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            try:
                await self._spawn()
            except OSError as error:
                self._say(f"cannot be started: {error}")
                continue
            if await self._becomes_ready():
                self._say("is ready again")

    async def _reap(self) -> None:
        """Nothing of it is left: the process collected, its group ended, its last words in the log."""
        if self.process is None:
            return
        self.kill()
        await self.process.wait()
        if self._following:
            await self._following
        self.changed()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None  # noqa: S101
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def _how_it_ended(self) -> str:
        code = self.process.returncode if self.process else None
        if code is None:
            return "did not answer"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def _say(self, text: str) -> None:
        self.log.line("marketplace", f"{self.service.name} {text}")


async def start_together(children: Iterable[Child]) -> None:
    """Start all at once. Raises StartFailed for the first that fails, and waits for no other."""
    try:
        async with asyncio.TaskGroup() as starting:
            for child in children:
                starting.create_task(child.start())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
