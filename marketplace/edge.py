"""ASGI below any framework: a body as it arrives, the key that it comes with, and a caller who may leave meanwhile."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from django.utils.translation import gettext as _

from . import trace
from .errors import PayloadTooLarge, Unauthenticated

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

T = TypeVar("T")

# A client that is still sending hears the answer only if somebody reads on: this much, for this long, is dropped.
MAX_DROPPED_BYTES = 512 * 1024 * 1024
MAX_DROPPING_SECONDS = 30


def bearer(header: str | None) -> str | None:
    """The key of `Authorization: Bearer <key>`; None without that header. Raises Unauthenticated for another scheme."""
    if header is None:
        return None
    scheme, _space, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise no_key()
    return secret.strip()


def no_key() -> Unauthenticated:
    return Unauthenticated(_("Send an API key as `Authorization: Bearer <key>`."))


def masked(error: BaseException, where: object = "") -> tuple[str, str]:
    """The message and the reference for what nobody expected, which is logged here, once."""
    reference = secrets.token_hex(8)
    log.error("internal error %s %s", reference, where, exc_info=error)
    return _("Internal error. Tell the operator this reference: %(id)s.") % {"id": reference}, reference


async def received(receive: Receive) -> list[Message]:
    """The messages of a body, the last of them perhaps a disconnect."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


async def body(receive: Receive, most: int) -> bytes | None:
    """At most `most` bytes; None when the caller hung up before its end. Raises PayloadTooLarge as soon as it is."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large(most)
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(_("The body has more than %(most)d bytes, which is the most that is read.") % {"most": most})


async def respond(send: Send, status: int, headers: Headers, content: bytes) -> None:
    """A whole answer, with its Content-Length."""
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})


async def refuse_body(receive: Receive, send: Send, status: int, headers: Headers, content: bytes) -> None:
    """Answers a caller who is still sending: what else comes is read and dropped, so that the answer is heard."""
    length = (b"content-length", str(len(content)).encode())
    whole = [*headers, length, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_drop(receive), MAX_DROPPING_SECONDS)
    await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive) -> None:
    dropped = 0
    while dropped <= MAX_DROPPED_BYTES:
        message = await receive()
        dropped += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """None when the caller has hung up, which cancels what still runs. The body has been received to its end."""
    task = asyncio.current_task()
    assert task is not None
    gone = asyncio.ensure_future(receive())

    def hung_up(_gone: "asyncio.Future[Message]") -> None:
        task.cancel()

    gone.add_done_callback(hung_up)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled() or task.uncancel():
            raise
        return None
    finally:
        gone.remove_done_callback(hung_up)
        gone.cancel()


class Traced:
    """ASGI: carries X-Request-Id and traceparent through whatever the request causes, and back to the caller."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            if name in (b"x-request-id", b"traceparent"):
                given[name] = value.decode("latin-1")
        begun = trace.begun(given.get(b"x-request-id"), given.get(b"traceparent"))
        headers = [(b"x-request-id", begun.request_id.encode())]
        if begun.traceparent:
            headers.append((b"traceparent", begun.traceparent.encode()))

        async def noted(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            await send(message)

        token = trace.current.set(begun)
        try:
            await self.app(scope, receive, noted)
        finally:
            trace.current.reset(token)
