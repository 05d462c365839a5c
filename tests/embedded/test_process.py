import asyncio
import io
import os
import signal

import pytest

from marketplace.embedded.log import Log
from marketplace.embedded.process import Process
from marketplace.embedded.service import Service

from .conftest import alive


async def started(script: str, log: Log) -> Process:
    return await Process.start(Service(name="program", argv=("sh", "-c", script), stop_seconds=2), os.environ, log)


async def test_its_end_is_noticed_while_its_children_hold_on_to_its_output() -> None:
    words = io.StringIO()
    process = await started("sleep 600 & echo $!; kill -KILL $$", Log(words))

    async with asyncio.timeout(10):
        assert await process.wait() == -signal.SIGKILL

    assert process.ending == "was ended by SIGKILL"
    (child,) = (int(word) for word in words.getvalue().split() if word.isdigit())
    async with asyncio.timeout(10):
        while alive(child):  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)


async def test_its_last_words_are_in_the_journal() -> None:
    words = io.StringIO()
    process = await started("echo farewell; exit 3", Log(words))

    assert await process.wait() == 3
    assert "farewell" in words.getvalue()


async def test_a_program_that_does_not_exist_leaves_no_pipe_open() -> None:
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(OSError, match="nothing-of-that-name"):
        await Process.start(Service(name="program", argv=("nothing-of-that-name",)), os.environ, Log(io.StringIO()))

    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before
