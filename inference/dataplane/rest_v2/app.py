"""ASGI: what is asked by path and method, and its answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.utils.translation import gettext as _

from inference.callers import invoke_by_key, principal_by_secret
from inference.dataplane import describe
from inference.dataplane.classification import check_classes, with_classes
from inference.dataplane.memory import LARGE, room_for
from inference.invocation import Invocation
from inference.tensors import Tensor
from marketplace.access import Principal
from marketplace.edge import (
    Headers,
    Receive,
    Scope,
    Send,
    bearer,
    body,
    refuse_body,
    respond,
    too_large,
    unless_gone,
)
from marketplace.errors import (
    IdempotencyConflict,
    MarketplaceError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    ValidationProblem,
)
from marketplace.metering.connections import out_of_reach

from . import answers, errors, requests
from .compression import ENCODINGS, MANY_BYTES, accepted, deflated, inflated

Answer = tuple[int, Headers, bytes]

# A tensor of the largest size still fits, and what describes it.
MAX_BODY_BYTES = 90 * 1024 * 1024
MAX_INDEX_BODY_BYTES = 4096

_JSON: Headers = [errors.JSON]
_EMPTY: Headers = [(b"content-type", b"text/plain")]
# Triton's paths that change the server, or tell of what is not there.
_OPERATORS = frozenset({"systemsharedmemory", "cudasharedmemory", "trace", "logging"})
# More than any version's number has.
MAX_DIGITS = 18


@dataclass(slots=True)
class Incoming:
    """A request: its headers by name, and its body, which may be read once."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    is_read: bool = False

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def secret(self) -> str | None:
        return bearer(self.text(b"authorization"))

    @property
    def has_body(self) -> bool:
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers

    async def body(self, most: int) -> bytes:
        """Raises PayloadTooLarge, and HungUp."""
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:18]) > most:
            raise too_large(most)
        content = await body(self.receive, most)
        if content is None:
            raise HungUp
        self.is_read = True
        return content


class HungUp(Exception):
    """Nobody is there to hear an answer."""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    incoming = Incoming(scope["method"], scope["path"], dict(scope["headers"]), receive)
    try:
        answered = await _answer(incoming)
        if answered is None:
            return
    except HungUp:
        return
    except MarketplaceError as error:
        answered = errors.refusal(error)
    except describe.DATABASE_IS_AWAY:
        answered = errors.refusal(out_of_reach())
    except Exception as error:
        answered = errors.internal(error)
    if incoming.is_read or not incoming.has_body:
        await respond(send, *answered)
    else:
        await refuse_body(receive, send, *answered)


async def _answer(incoming: Incoming) -> Answer | None:
    _root, _v2, *words = incoming.path.split("/")
    match words:
        case ["models", publisher, name, *rest] if publisher and name:
            return await _of_model(incoming, f"{publisher}/{name}", rest)
        case []:
            return _only("GET", incoming) or _told(describe.server())
        case ["health", "live"]:
            return _only("GET", incoming) or (200, _EMPTY, b"")
        case ["health", "ready"]:
            return _only("GET", incoming) or (200 if await describe.is_server_ready() else 400, _EMPTY, b"")
        case ["models", "stats"]:
            return _only("GET", incoming) or _told(await describe.statistics(await _somebody(incoming)))
        case ["models", name] if name:
            raise describe.not_found(name, None)
        case ["repository", "index"]:
            return _only("POST", incoming) or await _index(incoming)
        case ["repository", "models", *_rest]:
            raise _operators()
        case [first, *_rest] if first in _OPERATORS:
            raise _operators()
    return _nowhere()


async def _of_model(incoming: Incoming, ref: str, rest: list[str]) -> Answer | None:
    number = None
    match rest:
        case ["versions", digits, *more] if digits.isascii() and digits.isdigit() and len(more) < 2:
            verb = more[0] if more else ""
            number = int(digits[:MAX_DIGITS])
        case []:
            verb = ""
        case [verb]:
            pass
        case ["trace", "setting"]:
            raise _operators()
        case _:
            return _nowhere()
    if verb == "infer":
        return _only("POST", incoming) or await _infer(incoming, ref, number)
    if verb == "ready":
        return _only("GET", incoming) or await _model_ready(incoming, ref, number)
    describes = _DESCRIPTIONS.get(verb)
    if describes is None:
        return _nowhere()
    return _only("GET", incoming) or _told(await describes(await _who(incoming), ref, number))


_DESCRIPTIONS: dict[str, Callable[[Principal, str, int | None], Awaitable[Any]]] = {
    "": describe.metadata,
    "config": describe.config,
    "stats": describe.statistics,
}


async def _model_ready(incoming: Incoming, ref: str, number: int | None) -> Answer:
    if await describe.is_model_ready(await _who(incoming), ref, number):
        return 200, _EMPTY, b""
    return 400, _JSON, errors.body("Model version not ready")


async def _index(incoming: Incoming) -> Answer:
    principal = await _somebody(incoming)
    content = await incoming.body(MAX_INDEX_BODY_BYTES)
    try:
        asked = json.loads(content) if content else {}
        ready = asked.get("ready", False)
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValidationProblem(_("Expected a JSON object.")) from error
    if type(ready) is not bool:
        raise ValidationProblem(_("Expected true or false."), path="input.ready")
    return _told(await describe.index(principal, ready=ready))


# ---------------------------------------------------------------- infer


async def _infer(incoming: Incoming, ref: str, number: int | None) -> Answer | None:
    secret = incoming.secret
    if secret is None:
        raise _no_key()
    size = _declared(incoming)
    if size > LARGE:
        # Not read of somebody unknown.
        await principal_by_secret(secret)
    with room_for(size):
        content = await incoming.body(MAX_BODY_BYTES)
        encoding = (incoming.text(b"content-encoding") or "identity").strip().lower()
        if encoding == "identity":
            return await unless_gone(incoming.receive, _called(incoming, secret, ref, number, content))
        if encoding not in ENCODINGS:
            supported = (b"accept-encoding", ", ".join(ENCODINGS).encode())
            return 501, [errors.JSON, supported], errors.body("Unsupported compression type")
        content = await inflated(content, encoding, MAX_BODY_BYTES)
        with room_for(len(content)):
            return await unless_gone(incoming.receive, _called(incoming, secret, ref, number, content))


def _declared(incoming: Incoming) -> int:
    """The body's size, at most: a larger one is refused before it is read."""
    length = incoming.headers.get(b"content-length", b"")
    return min(int(length[:18]), MAX_BODY_BYTES) if length.isdigit() else MAX_BODY_BYTES


async def _called(incoming: Incoming, secret: str, ref: str, number: int | None, content: bytes) -> Answer:
    header_length = incoming.headers.get(b"inference-header-content-length")
    if header_length == b"0":
        signature = await describe.signature(await principal_by_secret(secret), ref, number)
        request = requests.raw(content, signature)
    else:
        request = requests.read(content, header_length)
    if request.classes:
        await check_classes(request.classes, await principal_by_secret(secret), ref, number)
    try:
        done = await invoke_by_key(
            secret,
            ref=ref,
            version=number,
            inputs=request.inputs,
            outputs=request.outputs,
            parameters=request.parameters,
            timeout=request.timeout,
            idempotency_key=incoming.text(b"idempotency-key"),
        )
    except NotFound as error:
        raise describe.not_found(ref, number) from error
    outputs = await _outputs(done, request)
    write = partial(
        answers.written,
        answers.head(request.id, ref, done.version.number),
        outputs,
        request.binary,
        binary_by_default=request.binary_by_default,
    )
    few = sum(len(tensor.content) for tensor in outputs) <= MANY_BYTES
    headers, answered = write() if few else await asyncio.to_thread(write)
    own = [*headers, (b"x-invocation-id", str(done.id).encode())]
    encoding = incoming.text(b"accept-encoding")
    wanted = accepted(encoding) if encoding is not None else None
    if wanted is None:
        return 200, own, answered
    return 200, [*own, (b"content-encoding", wanted.encode())], await deflated(answered, wanted)


async def _outputs(done: Invocation, request: requests.Request) -> Sequence[Tensor]:
    if done.outputs is None:
        raise IdempotencyConflict(
            _("This call was answered and charged before, and its answer is kept no longer. Use a new key.")
        )
    return await with_classes(done.outputs, request.classes, done.version)


# ---------------------------------------------------------------- who asks, and plain answers


async def _who(incoming: Incoming) -> Principal:
    return await principal_by_secret(incoming.secret)


async def _somebody(incoming: Incoming) -> Principal:
    principal = await _who(incoming)
    if principal.tenant_id is None:
        raise _no_key()
    return principal


def _no_key() -> Unauthenticated:
    return Unauthenticated(_("Send an API key as `Authorization: Bearer <key>`."))


def _operators() -> PermissionDenied:
    return PermissionDenied(_("Only the operator changes how the server runs."))


def _only(method: str, incoming: Incoming) -> Answer | None:
    if incoming.method == method:
        return None
    return 405, [errors.JSON, (b"allow", method.encode())], errors.body("Method Not Allowed")


def _nowhere() -> Answer:
    return 404, _JSON, errors.body("Not Found")


def _told(what: Any) -> Answer:
    return 200, _JSON, json.dumps(what, separators=(",", ":")).encode()
