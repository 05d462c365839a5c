"""The way in for calls with an API key, ahead of Django's request handler: no middleware, no thread, no ORM.

A POST to /graphql that carries a key and whose document does nothing but invoke is answered here, from its compiled
plan. Everything else goes on to Django as it came, and so does whatever is unusual about a request: what is answered
here is answered as the view would, and what is refused is refused by the view itself.
"""

from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.cache import patch_vary_headers
from django.utils.translation import get_language

from inference.callers import place_of
from marketplace.access import Principal
from marketplace.edge import App, Headers, Message, Receive, Scope, Send, bearer, received, respond, unless_gone
from marketplace.errors import MarketplaceError, ModelUnavailable
from marketplace.metering.connections import fetched
from marketplace.tenants.authentication import hinted_principal, principal_by_key

from . import compiled
from .context import records_out_of_reach
from .execution import Answer, content, encoded
from .limits import MAX_ANONYMOUS_BODY_BYTES
from .sse import EVENT_STREAM
from .views import (
    JSON,
    RequestRefusedError,
    answered,
    checked,
    media_type,
    parsed,
    refused,
)

PATH = "/graphql"
# A larger body is spooled, and its caller known before it is read, by Django.
MAX_BODY_BYTES = MAX_ANONYMOUS_BODY_BYTES
_USUAL_BODIES = frozenset((JSON.encode(), f"{JSON}; charset=utf-8".encode()))


class _Asked(NamedTuple):
    media_type: str
    secret: str
    length: int


class QuickPath:
    """ASGI: answers invocations with an API key, and hands everything else to `app`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _asked(scope) if scope["type"] == "http" and scope["path"] == PATH else None
        if asked is None:
            await self.app(scope, receive, send)
            return
        messages = await received(receive)
        calls = _calls(b"".join(message.get("body", b"") for message in messages), asked.length)
        if calls is None:
            await self.app(scope, _again(messages, receive), send)
            return
        secure = _is_secure(scope)
        try:
            answer = await unless_gone(receive, _answer(asked.secret, calls))
        except MarketplaceError as error:
            response = refused(error, asked.media_type)
            await respond(send, response.status_code, _headers(response, secure), response.content)
            return
        if answer is not None:
            await respond(send, HTTPStatus.OK, _usual_headers(asked.media_type, secure), encoded(content(answer)))


def _asked(scope: Scope) -> _Asked | None:
    """None for whatever the view might refuse, and for what only Django's middlewares understand."""
    if scope["method"] != "POST" or scope.get("root_path"):
        return None
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in headers:
            return None
        headers[name] = value
    authorization, length = headers.get(b"authorization"), headers.get(b"content-length", b"")
    if authorization is None or not length.isdigit() or int(length) > MAX_BODY_BYTES:
        return None
    if headers.get(b"content-type") not in _USUAL_BODIES or not _is_ours(headers.get(b"host", b"")):
        return None
    accepted = media_type(headers.get(b"accept", b"*/*").decode("latin-1"))
    try:
        secret = bearer(authorization.decode("latin-1"))
    except MarketplaceError:
        return None
    if accepted is None or accepted == EVENT_STREAM or secret is None:
        return None
    return _Asked(accepted, secret, int(length))


@lru_cache(maxsize=256)
def _is_ours(host: bytes) -> bool:
    """As HttpRequest.get_host has it."""
    domain, _port = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _again(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def receive_again() -> Message:
        message = next(waiting, None)
        return message if message is not None else await receive()

    return receive_again


def _calls(body: bytes, length: int) -> list[compiled.Call] | None:
    if len(body) != length:
        return None
    try:
        parameters = parsed(body, "")
        if not isinstance(parameters, dict):
            return None
        document, variables, operation_name = checked(parameters)
    except RequestRefusedError:
        return None
    plan = compiled.plan(document, operation_name)
    return plan.calls(variables or {}) if plan is not None else None


async def _answer(secret: str, calls: list[compiled.Call]) -> Answer:
    """Raises Unauthenticated, and ModelUnavailable when nobody can tell who asks."""

    async def look_up() -> Principal:
        try:
            return await principal_by_key(secret, fetched)
        except ModelUnavailable as error:
            raise records_out_of_reach() from error

    try:
        principal = await hinted_principal(secret, fetched)
    except ModelUnavailable as error:
        raise records_out_of_reach() from error
    with place_of(secret):
        return await compiled.run(principal or await look_up(), calls, look_up)


@cache
def _usual_headers(media_type: str, secure: bool) -> Headers:
    """Of the view's answer to what was executed, which a plan's always is."""
    return _headers(answered(Answer({}, []), media_type), secure)


def _headers(response: HttpResponse, secure: bool) -> Headers:
    patch_vary_headers(response, ("Accept-Language",))
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]
    return [*own, *_house_headers(secure)]


def _is_secure(scope: Scope) -> bool:
    """As HttpRequest.is_secure has it."""
    if settings.SECURE_PROXY_SSL_HEADER:
        name, secure = settings.SECURE_PROXY_SSL_HEADER
        wanted = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
        for header, value in scope["headers"]:
            if header == wanted:
                return bool(value.partition(b",")[0].strip() == secure.encode())
    return bool(scope.get("scheme") == "https")


@cache
def _house_headers(secure: bool) -> tuple[tuple[bytes, bytes], ...]:
    """What the middlewares add to every answer of this address."""
    request, response = HttpRequest(), HttpResponse()
    request.path = request.path_info = PATH
    request.is_secure = lambda: secure  # type: ignore[method-assign]
    known = set(response.headers)
    for middleware in (XFrameOptionsMiddleware, CSPMiddleware, SecurityMiddleware):
        middleware(_unused).process_response(request, response)
    response.headers["Content-Language"] = get_language() or settings.LANGUAGE_CODE
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.items()
        if name not in known
    )


def _unused(_request: HttpRequest) -> Any:
    raise AssertionError("only process_response is asked")
