"""Connections that nobody waits for without end: callers who send slowly, or do not read, or neither.

uvicorn waits for as long as the caller likes, but between requests. Here a connection is looked at now and then.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# For the whole of a request's head; between two parts of its body; until a caller who does not read is given up.
HEAD_SECONDS = 10.0
BODY_IDLE_SECONDS = 20.0
STALLED_SECONDS = 60.0
LOOK_SECONDS = 2.0
# A caller whose connection is idle may just be sending: it is answered before the connection ends.
LINGER_SECONDS = 1.0

# More than this is sent at once.
GATHERED_BYTES = 64 * 1024

TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Parser(httptools.HttpRequestParser):
    """Reads a request on that offers another protocol than WebSocket, as curl --http2 and Java's client do with HTTP/2.

    A server may ignore such an offer (RFC 9110, section 7.8). httptools takes the request to end with its head, and its
    body for the other protocol: so it is given the head once more, without the offer.
    """

    def __init__(self, connection: "HTTPConnection") -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # asyncio gives nothing else
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if not self._connection.is_declined():
                    raise
                data = self._connection.head_without_offer() + data[offer.args[0] :]


class _Gathering:
    """A transport that sends what is written in one turn of the loop together: of an answer, head and body.

    Apart, they are two system calls, and tritonclient's async_infer keeps a connection whose body comes after its head
    until the answer is asked for, and with it all that wait for the connection.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._size + len(data) > GATHERED_BYTES:
            self._send()
            self._transport.write(data)
            return
        if not self._gathered:
            self._loop.call_soon(self._send)
        self._gathered.append(data)
        self._size += len(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        gathered, self._gathered, self._size = self._gathered, [], 0
        # Whoever left meanwhile is sent nothing; uvloop raises of it.
        if gathered and not self._transport.is_closing():
            self._transport.write(b"".join(gathered))


class HTTPConnection(HttpToolsProtocol):
    """Ends with 408 when a request does not come to its end, and abruptly when an answer is not taken."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser = _Parser(self)
        # As uvicorn has it for its own.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        now = self.loop.time()
        self._heard = now
        # When the head that is being read began: with the connection, for its first one.
        self._head_began: float | None = now
        self._stalled: float | None = None
        self._ending = False
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Gathering(transport, self.loop))  # type: ignore[arg-type]
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_at)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_began = self._heard
        super().on_message_begin()

    def is_declined(self) -> bool:
        """Whether the request that is being read offers a protocol that is not spoken here."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def head_without_offer(self) -> bytes:
        start = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"".join((start, *fields, b"\r\n"))

    def on_headers_complete(self) -> None:
        if self.is_declined():
            return
        self._head_began = None
        super().on_headers_complete()
        if self._ending and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if not self.is_declined():
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self._look is not None:
            self._look.cancel()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        self._stalled = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled = None
        super().resume_writing()

    def shutdown(self) -> None:
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(LINGER_SECONDS, self.timeout_keep_alive_handler)
        else:
            self.cycle.keep_alive = False

    def _look_at(self) -> None:
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_at)
        now = self.loop.time()
        if self._stalled is not None and now - self._stalled > STALLED_SECONDS:
            self.transport.abort()
        elif self._head_began is not None:
            if now - self._head_began > HEAD_SECONDS:
                self._time_out()
        elif self._waits_for_body() and now - self._heard > BODY_IDLE_SECONDS:
            self._time_out()

    def _waits_for_body(self) -> bool:
        # Reading is paused while nobody takes what has come: then it is we who are slow.
        return self.cycle is not None and self.cycle.more_body and not self.flow.read_paused

    def _time_out(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(TIMED_OUT)
        self.transport.close()


class WebSocketConnection(WebSocketsSansIOProtocol):
    """When the server ends, the application closes the socket by itself, as soon as nothing is under way there."""

    def shutdown(self) -> None:
        if not self.handshake_complete:
            super().shutdown()
