"""A server through a socket that can be stopped, cut and mended at will, and at a moment chosen by what passes."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Protocol

# A Unix socket's path, or host and port.
Address = str | tuple[str, int]


class Listener(Protocol):
    """Hears one connection. Names the moment that a piece of it is, or None when it is not worth stopping at."""

    def asked(self, data: bytes) -> str | None: ...
    def answered(self, data: bytes) -> str | None: ...


class Deaf:
    def asked(self, data: bytes) -> str | None:
        return None

    def answered(self, data: bytes) -> str | None:
        return None


class Stop:
    """One piece on its way, withheld from whom it is for until `pass_on` or `cut` is called."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.passed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def pass_on(self) -> None:
        if not self.passed.done():
            self.passed.set_result(True)

    def cut(self) -> None:
        """It is lost, and its connection ends."""
        if not self.passed.done():
            self.passed.set_result(False)


class Proxy:
    """While `flowing` is cleared, answers pile up here; `held_back` is set once there is one."""

    def __init__(self, upstream: Address, listener: Callable[[], Listener] = Deaf) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.held_back = asyncio.Event()
        self._upstream = upstream
        self._listener = listener
        self._stops: dict[str, Stop] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._address: Address = ""

    def pause(self) -> None:
        self.flowing.clear()
        self.held_back.clear()

    def resume(self) -> None:
        self.flowing.set()

    def stop_at(self, moment: str) -> Stop:
        """The next piece that the listener says is this moment will be withheld; the other connections flow on."""
        stop = self._stops[moment] = Stop()
        return stop

    async def cut(self) -> None:
        """Ends every connection, whatever was on its way; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    async def serve(self, address: Address) -> Address:
        """Where it listens: at `address`, and at a free port where that is 0; the same one ever after."""
        self._address = address
        await self.come_back()
        return self._address

    async def go_away(self) -> None:
        assert self._server is not None
        self._server.close()
        self.resume()
        for stop in self._stops.values():
            stop.cut()
        await self.cut()
        if isinstance(self._address, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address)

    async def come_back(self) -> None:
        if isinstance(self._address, str):
            self._server = await asyncio.start_unix_server(self._accept, self._address)
        else:
            self._server = await asyncio.start_server(self._accept, *self._address)
            self._address = self._server.sockets[0].getsockname()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._upstream, str):
                answers, questions = await asyncio.open_unix_connection(self._upstream)
            else:
                answers, questions = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        listener = self._listener()

        async def forth() -> None:
            while data := await reader.read(65536):
                if not await self._passes(listener.asked(data)):
                    return
                questions.write(data)

        async def back() -> None:
            while data := await answers.read(65536):
                if not self.flowing.is_set():
                    self.held_back.set()
                    await self.flowing.wait()
                if not await self._passes(listener.answered(data)):
                    return
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

    async def _passes(self, moment: str | None) -> bool:
        stop = self._stops.pop(moment, None) if moment else None
        if stop is None:
            return True
        stop.reached.set()
        return await stop.passed
