"""Servers of these tests' own, apart from the ones that `make test` runs in: these get killed."""

import asyncio
import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from marketplace.embedded.child import Child, start_together
from marketplace.embedded.log import Log
from marketplace.embedded.service import Service

REPLACEMENTS = ("DATABASE_URL", "VALKEY_URL", "TRITON_URLS", "DATA_DIR", "SECRET_KEY", "PORT", "GRPC_PORT", "HOST")


@pytest.fixture
def bare_environment() -> dict[str, str]:
    """Our environment, but that it names no server: whoever gets it starts some."""
    return {name: value for name, value in os.environ.items() if name not in REPLACEMENTS}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a short path, as sockets need one."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-"))
    yield folder
    shutil.rmtree(folder)


def alive_with(words: str) -> list[int]:
    """Processes that were started with these words among their arguments or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            facts = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if words.encode() in facts and alive(int(process.name)) and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Kept:
    """Services that are kept running, and what was said about them."""

    words: io.StringIO = field(default_factory=io.StringIO)
    children: list[Child] = field(default_factory=list)
    changes: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def start(self, *services: Service) -> Sequence[Child]:
        log = Log(self.words)
        started = [
            Child(service, environment=os.environ, journal=log, changed=lambda: self.changes.put_nowait(None))
            for service in services
        ]
        self.children += started
        await start_together(started)
        return started

    async def restarted(self, child: Child, old: int) -> int:
        """Wait until it runs under another process id and answers again."""
        while (pid := child.pid) in {None, old}:
            await self.changes.get()
        assert pid is not None
        await until(lambda: child.service.ready(pid))
        return pid

    async def stop(self) -> None:
        await asyncio.gather(*(child.stop() for child in self.children))
        self.children.clear()


@pytest_asyncio.fixture
async def kept(data_dir: Path) -> AsyncIterator[Kept]:
    services = Kept()
    yield services
    await services.stop()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110  (another process has no event for us to wait on)
        await asyncio.sleep(0.02)
