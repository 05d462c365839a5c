"""Connections whose other side is slow: each is waited for, and none of them without end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState

from marketplace.config import protocols

REQUEST = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
LARGE = 8 * 1024 * 1024


class Site:
    """An application that answers with the body it was sent or, at /large, with much; and who spoke to it."""

    def __init__(self) -> None:
        self.port = 0
        self.answered = 0
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(LARGE // 65536 if scope["path"] == "/large" else 1):
            await send({"type": "http.response.body", "body": body * 16384, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.answered += 1
        self.gone.set()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        yield reader, writer
        writer.close()


@pytest_asyncio.fixture
async def site(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> AsyncIterator[Site]:
    for name in ("HEAD_SECONDS", "BODY_IDLE_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(protocols, name, 0.3)
    monkeypatch.setattr(protocols, "LOOK_SECONDS", 0.02)
    application = Site()
    application.port = unused_tcp_port
    server = uvicorn.Server(
        uvicorn.Config(
            application,  # type: ignore[arg-type]
            port=unused_tcp_port,
            http=protocols.HTTPConnection,
            lifespan="off",
            log_level="warning",
        )
    )
    running = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield application
    server.should_exit = True
    await running


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take a while to send a head."""
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 60.0)


async def test_a_request_that_comes_at_once_is_answered(site: Site, unhurried: None) -> None:
    async with site.connection() as (reader, writer):
        writer.write(REQUEST + b"ping")

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"


class Recorded(asyncio.Transport):
    """What is written to nobody, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


async def test_head_and_body_of_an_answer_leave_together() -> None:
    answered = asyncio.Event()

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"pong"})
        answered.set()

    connection = protocols.HTTPConnection(uvicorn.Config(application), ServerState(), {})  # type: ignore[arg-type]
    transport = Recorded()
    connection.connection_made(transport)
    connection.data_received(REQUEST + b"ping")
    await answered.wait()
    await asyncio.sleep(0)
    connection.connection_lost(ConnectionError())

    [answer] = transport.written
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\npong")


@pytest.mark.parametrize("offered", [b"h2c", b"TLS/1.2"])
async def test_an_offer_of_another_protocol_is_passed_over_and_the_body_is_read(site: Site, offered: bytes) -> None:
    offer = b"\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: %s\r\n\r\n" % offered
    request = REQUEST.replace(b"\r\n\r\n", offer) + b"ping"
    async with site.connection() as (reader, writer):
        # The second one behind it, cut in its head and in its body.
        for part in (request + request[:30], request[30:-2], request[-2:]):
            writer.write(part)
            await writer.drain()

        assert [await _whole(reader), await _whole(reader)] == [b"ping" * 16384] * 2


@pytest.mark.parametrize("said", [b"", b"POST /echo HT", REQUEST[:-2]])
async def test_a_head_that_never_ends_is_not_waited_for(site: Site, said: bytes) -> None:
    async with site.connection() as (reader, writer):
        writer.write(said)

        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        assert (await reader.read()).endswith(b"connection: close\r\n\r\n")
    assert site.answered == 0


async def test_a_head_that_comes_letter_by_letter_has_no_more_time_than_another(site: Site) -> None:
    async with site.connection() as (reader, writer):

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        writer.write(b"POST /echo HTTP/1.1\r\nx-long: ")
        dripping = asyncio.create_task(drip())

        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        dripping.cancel()


async def test_a_body_that_stops_is_not_waited_for_and_its_application_hears_of_it(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(REQUEST + b"pi")

        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        await site.gone.wait()
    assert site.answered == 0


async def test_a_body_may_take_its_time_as_long_as_it_comes(
    site: Site, unhurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "BODY_IDLE_SECONDS", 1.0)
    async with site.connection() as (reader, writer):
        writer.write(REQUEST)
        for letter in (b"p", b"i", b"n", b"g"):
            await asyncio.sleep(0.3)
            writer.write(letter)

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_a_second_request_on_a_connection_has_the_same_time(site: Site) -> None:
    async with site.connection() as (reader, writer):
        writer.write(REQUEST + b"ping")
        await _whole(reader)
        writer.write(b"POST /echo HT")

        assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"


async def _whole(reader: asyncio.StreamReader) -> bytes:
    """The body of a chunked answer."""
    body = b""
    while (line := await reader.readline()) != b"\r\n":
        assert line
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def test_a_caller_who_does_not_read_is_given_up(site: Site) -> None:
    async with site.connection() as (_reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(REQUEST.replace(b"/echo", b"/large") + b"ping")

        # The answer no longer waits for anybody.
        await site.gone.wait()
    assert site.answered == 1
