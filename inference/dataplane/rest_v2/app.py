"""ASGI: what is asked by path and method, and its answer."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.utils.translation import gettext as _

from inference.callers import principal_by_secret
from inference.dataplane import describe
from marketplace.access import Principal
from marketplace.edge import Headers, Receive, Scope, Send, no_key, refuse_body, respond
from marketplace.errors import MarketplaceError, PermissionDenied, ValidationProblem
from marketplace.metering.connections import out_of_reach

from . import errors
from .answers import Answer
from .calls import infer
from .incoming import HungUp, Incoming

MAX_INDEX_BODY_BYTES = 4096

_JSON: Headers = [errors.JSON]
_EMPTY: Headers = [(b"content-type", b"text/plain")]
# Triton's paths that change the server, or tell of what is not there.
_OPERATORS = frozenset({"systemsharedmemory", "cudasharedmemory", "trace", "logging"})
# More than any version's number has.
MAX_DIGITS = 18


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
        case ["models", name, "infer"] if name and incoming.method == "POST":
            # A model's own path takes no POST: the name has one word, as at Triton, and none here has.
            raise describe.not_found(name, None)
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
        return _only("POST", incoming) or await infer(incoming, ref, number)
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


async def _who(incoming: Incoming) -> Principal:
    return await principal_by_secret(incoming.secret)


async def _somebody(incoming: Incoming) -> Principal:
    principal = await _who(incoming)
    if principal.tenant_id is None:
        raise no_key()
    return principal


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
