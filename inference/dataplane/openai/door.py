"""The OpenAI-style API as an ASGI application: who asks, for what, and the answer in one piece or as events (SSE)."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from django.utils.translation import gettext as _

from inference.callers import as_caller
from inference.dataplane.deprecation import header_fields
from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.edge import (
    Headers,
    Receive,
    Scope,
    Send,
    bearer,
    body,
    no_key,
    refuse_body,
    respond,
    too_large,
    unless_gone,
)

from . import completions, embeddings, listing
from .answers import encoded
from .errors import JSON, Refused, failure
from .fields import MAX_BODY_BYTES, Fields

MODELS = "/v1/models"
FORMS = {"/v1/chat/completions": completions.CHAT, "/v1/completions": completions.COMPLETION}
EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies that gather an answer before they pass it on are told not to.
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """One request under /v1."""
    call = _Call(scope, send)
    try:
        work = call.work()
        secret = call.secret()
        # Nobody's body is read before it is known whose it is.
        await as_caller(secret, _known)
        content = await body(receive, MAX_BODY_BYTES)
    except Exception as error:  # whatever it is, the caller hears of it in OpenAI's form
        told = failure(error)
        await refuse_body(receive, send, told.status, told.headers, encoded(told.content))
        return
    if content is not None:
        await unless_gone(receive, call.answered(work, secret, content))


Work = Callable[[str, bytes], Awaitable[None]]


async def _known(_principal: Principal, _hinted: bool) -> None:
    """Whoever it is: what they may do is asked when it is known what they want."""


class _Call:
    """A request and the way to answer it. `subject`: the body's field that is the model's input, once it is known."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.send = send
        self.subject: str | None = None

    def secret(self) -> str:
        """Raises Unauthenticated; PayloadTooLarge for a body that says that it is."""
        authorization = self.headers.get(b"authorization")
        secret = bearer(authorization.decode("latin-1")) if authorization is not None else None
        if secret is None:
            raise no_key()
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise too_large(MAX_BODY_BYTES)
        return secret

    def work(self) -> Work:
        """Raises Refused for a path or a method that there is not."""
        method = "POST"
        work: Work = self.completions
        if self.path == MODELS or self.path.startswith(f"{MODELS}/"):
            method, work = "GET", self.models
        elif self.path == "/v1/embeddings":
            work = self.embeddings
        elif self.path not in FORMS:
            raise Refused(
                _("There is no %(path)s here.") % {"path": self.path[:200]},
                path=None,
                code="unknown_url",
                http_status=404,
            )
        if self.method != method:
            raise Refused(
                _("%(path)s takes %(method)s.") % {"path": self.path[:200], "method": method},
                path=None,
                code="method_not_allowed",
                http_status=405,
                allow=method,
            )
        return work

    async def answered(self, work: Work, secret: str, content: bytes) -> None:
        try:
            await work(secret, content)
        except Exception as error:  # as above; what has begun to be answered does not come here
            told = failure(error, subject=self.subject)
            await respond(self.send, told.status, told.headers, encoded(told.content))

    async def models(self, secret: str, _content: bytes) -> None:
        name = self.path.removeprefix(MODELS).removeprefix("/")
        told = encoded(await (listing.model(secret, name) if name else listing.models(secret)))
        await respond(self.send, 200, [JSON], told)

    async def embeddings(self, secret: str, content: bytes) -> None:
        self.subject = "input"
        await self.whole(*await embeddings.answer(Fields(content), secret, self.idempotency_key()))

    async def completions(self, secret: str, content: bytes) -> None:
        form = FORMS[self.path]
        prompt = form.read(Fields(content))
        self.subject = prompt.subject
        if not prompt.streamed:
            version, told = await completions.whole(form, prompt, secret, self.idempotency_key())
            await self.whole(version, encoded(told))
            return
        async with aclosing(completions.streamed(form, prompt, secret, self.idempotency_key())) as events:
            await self.stream(events)

    def idempotency_key(self) -> str | None:
        key = self.headers.get(b"idempotency-key")
        return None if key is None else key.decode("latin-1")

    async def whole(self, version: ModelVersion, content: bytes) -> None:
        await respond(self.send, 200, [JSON, *header_fields(version)], content)

    async def stream(self, events: AsyncGenerator[tuple[ModelVersion, dict[str, Any]]]) -> None:
        """Server-sent events (WHATWG HTML, 9.2), as fast as they are read. There is a first one before the status."""
        version, event = await anext(events)
        headers = [*EVENTS, *header_fields(version)]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await self.part(_event(event))
            async for _version, event in events:
                await self.part(_event(event))
            last = DONE
        except Exception as error:  # the status is sent: what is left is to say it in the stream
            last = _event(failure(error, subject=self.subject).content)
        await self.send({"type": "http.response.body", "body": last})

    async def part(self, content: bytes) -> None:
        await self.send({"type": "http.response.body", "body": content, "more_body": True})


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + encoded(content) + b"\n\n"
