"""A service that is kept running: started again whenever it dies, a little later each time."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

from .process import Journal, Process
from .service import Service, StartFailed

POLL_SECONDS = 0.05
START_SECONDS = 120
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30
# A child that has run this long was well: its next death is not the last one's fault.
SETTLED_SECONDS = 60


class Child:
    """`changed` is called whenever its process appears or goes."""

    def __init__(
        self, service: Service, *, environment: Mapping[str, str], journal: Journal, changed: Callable[[], None]
    ) -> None:
        self.service = service
        self._environment = environment
        self._journal = journal
        self._changed = changed
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.running else None

    async def start(self) -> None:
        """Start it, wait until it answers, and keep it running from then on.

        Raises StartFailed when it ends before that or takes longer than two minutes: at its first start, what is wrong
        needs a person.
        """
        try:
            process = await self._spawn()
        except OSError as error:
            raise StartFailed(f"{self.service.name} cannot be started: {error}") from error
        if not await self._becomes_ready(process):
            if not process.running:
                await process.wait()
            raise StartFailed(f"{self.service.name} {process.ending}; what it said is above.")
        self._keeping = asyncio.create_task(self._keep(process), name=f"keep {self.service.name}")

    async def stop(self) -> None:
        """End it for good. Nothing of it is left afterwards."""
        if self._keeping:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        if self._process and not await self._process.stop():
            self._say(f"did not stop within {self.service.stop_seconds:g} s and was killed")
        await asyncio.to_thread(self.service.sweep)
        self._changed()

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    async def _spawn(self) -> Process:
        self._process = await Process.start(self.service, self._environment, self._journal)
        self._changed()
        return self._process

    async def _becomes_ready(self, process: Process) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while process.running and time.monotonic() < deadline:
            if await self.service.ready(process.pid):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def _keep(self, process: Process) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            await process.wait()
            self._changed()
            if time.monotonic() - started > SETTLED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._say(f"{process.ending}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            try:
                process = await self._spawn()
            except OSError as error:
                self._say(f"cannot be started: {error}")
                continue
            if await self._becomes_ready(process):
                self._say("is ready again")

    def _say(self, text: str) -> None:
        self._journal.line("marketplace", f"{self.service.name} {text}")


async def start_together(children: Iterable[Child]) -> None:
    """Start all at once. Raises StartFailed for the first that fails, and waits for no other."""
    try:
        async with asyncio.TaskGroup() as starting:
            for child in children:
                starting.create_task(child.start())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
