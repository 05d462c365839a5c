"""PostgreSQL through a socket that can be stopped, cut and mended at will."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from marketplace.metering.admission import idle


class Proxy:
    """While `flowing` is cleared, answers pile up here; `held_back` is set once there is one."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.held_back = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def pause(self) -> None:
        self.flowing.clear()
        self.held_back.clear()

    def resume(self) -> None:
        self.flowing.set()

    async def cut(self) -> None:
        """Ends every connection, whatever was on its way; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    async def serve(self, folder: Path) -> None:
        self._upstream = (connection.settings_dict["HOST"], connection.settings_dict["PORT"] or "5432")
        self._path = folder / ".s.PGSQL.5432"
        await self.come_back()

    async def go_away(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()
        self._path.unlink(missing_ok=True)

    async def come_back(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._upstream
        if host.startswith("/"):
            answers, questions = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            answers, questions = await asyncio.open_connection(host, int(port))

        async def forth() -> None:
            while data := await reader.read(65536):
                questions.write(data)

        async def back() -> None:
            while data := await answers.read(65536):
                if not self.flowing.is_set():
                    self.held_back.set()
                    await self.flowing.wait()
                writer.write(data)

        self._writers.add(writer)
        directions = [asyncio.ensure_future(forth()), asyncio.ensure_future(back())]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(writer)
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for stream in (writer, questions):
                stream.transport.abort()
                with contextlib.suppress(OSError):
                    await stream.wait_closed()


@contextlib.asynccontextmanager
async def proxied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """Metering's connections lead through the proxy; Django's own, once open, do not."""
    proxy = Proxy()
    await proxy.serve(folder)
    monkeypatch.setitem(connection.settings_dict, "HOST", str(folder))
    monkeypatch.setitem(connection.settings_dict, "PORT", "")
    try:
        yield proxy
    finally:
        monkeypatch.undo()
        proxy.resume()
        await proxy.go_away()


async def under_way(proxy: Proxy, call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """The call's task, once PostgreSQL has answered it and its caller has not heard yet."""
    await idle()
    proxy.pause()
    task = asyncio.ensure_future(call)
    await proxy.held_back.wait()
    return task
