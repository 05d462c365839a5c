"""GraphQL over HTTP (the GraphQL Foundation's specification of that name), and GraphiQL for a browser's GET."""

import json
import re
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from graphql import OperationType

from marketplace.edge import bearer
from marketplace.errors import MarketplaceError
from marketplace.tenants.sessions import forgery

from . import multipart
from .context import context_of
from .errors import request_error
from .execution import Answer, answer, answers, content, encoded, opened, refusal
from .limits import MAX_ANONYMOUS_BODY_BYTES, MAX_BODY_BYTES, RefusedError
from .sse import COMPLETE, CONTENT_TYPE, EVENT_STREAM, EventStream, next_event

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"
HTML = "text/html"
AnyResponse = TypeVar("AnyResponse", bound=HttpResponseBase)
# What may be asked for, with and without the charset that it has in any case.
_OFFERED = {
    f"{kind}{charset}": kind for kind in (JSON, GRAPHQL_RESPONSE, EVENT_STREAM) for charset in ("", "; charset=utf-8")
}

_HALF_OF_A_SURROGATE_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


class RequestRefusedError(Exception):
    def __init__(self, status: HTTPStatus, message: str, code: str = "BAD_REQUEST", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@csrf_exempt
async def graphql_view(request: HttpRequest) -> HttpResponseBase:
    """CSRF is enforced here, for sessions only: a Bearer key is nothing that a browser sends on its own."""
    kind = None
    try:
        if request.method not in ("GET", "POST"):
            raise RequestRefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED, _("Send GET for queries, POST for all."), Allow="GET, POST"
            )
        if _is_a_browser_looking(request):
            return _graphiql(request)
        kind = media_type(request.headers.get("Accept", "*/*"))
        if kind is None:
            raise RequestRefusedError(HTTPStatus.NOT_ACCEPTABLE, _("The answer is %(type)s.") % {"type": JSON})
        return await _answer(request, kind)
    except RequestRefusedError as refused_request:
        error = {"message": refused_request.message, "extensions": {"code": refused_request.code}}
        response = _response({"errors": [error]}, kind or JSON, refused_request.status)
        for name, value in refused_request.headers.items():
            response.headers[name] = value
        return response


@lru_cache(maxsize=256)
def media_type(accept: str) -> str | None:
    """What to answer with under that Accept header; None when nothing that is offered is accepted."""
    request = HttpRequest()
    request.META["HTTP_ACCEPT"] = accept
    return _OFFERED.get(request.get_preferred_type(list(_OFFERED)) or "")


async def _answer(request: HttpRequest, media_type: str) -> HttpResponseBase:
    try:
        context = await context_of(request)
    except MarketplaceError as error:
        return refused(error, media_type)
    if request.method == "GET":
        parameters = _from_query_string(request)
    elif request.content_type == multipart.MEDIA_TYPE:
        most = multipart.MAX_BODY_BYTES if context.principal.tenant_id else MAX_ANONYMOUS_BODY_BYTES
        # Whatever looks at such a body parses all of it.
        parameters = await sync_to_async(_from_multipart)(request, most)
    else:
        _check_csrf(request)
        most = MAX_BODY_BYTES if context.principal.tenant_id else MAX_ANONYMOUS_BODY_BYTES
        parameters = _from_body(request, most)
    try:
        operation = opened(*checked(parameters))
    except RefusedError as error:
        return answered(refusal(error), media_type)
    _check_method(request, operation.kind)
    if operation.kind is not OperationType.SUBSCRIPTION:
        # Answered before the response begins: what a mutation writes into the session is saved with it.
        return answered(await answer(context, operation), media_type)
    # Many clients accept it among others, and ask for JSON first.
    if not request.accepts(EVENT_STREAM):
        raise RequestRefusedError(
            HTTPStatus.NOT_ACCEPTABLE,
            _("A subscription is answered as %(type)s: accept that, or use a WebSocket.") % {"type": EVENT_STREAM},
        )
    return _sent(EventStream(answers(context, operation)))


def _check_method(request: HttpRequest, kind: OperationType) -> None:
    """Nothing that changes something by GET. A subscription is charged: by GET it needs an API key, which (unlike a
    cookie) no other site's page can make a browser send."""
    if request.method == "POST" or kind is OperationType.QUERY:
        return
    if kind is OperationType.MUTATION:
        raise RequestRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, _("Send mutations by POST."), Allow="POST")
    if bearer(request.headers.get("Authorization")) is None:
        raise RequestRefusedError(
            HTTPStatus.METHOD_NOT_ALLOWED, _("Send subscriptions by POST, or with an API key."), Allow="POST"
        )


def refused(error: MarketplaceError, media_type: str) -> HttpResponse:
    """The answer to a request whose caller is not known, or cannot be."""
    response = _response({"errors": [request_error(error)]}, media_type, HTTPStatus(error.http_status))
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def answered(answer: Answer, media_type: str) -> HttpResponse:
    if media_type == EVENT_STREAM:
        return _sent(HttpResponse(next_event(answer) + COMPLETE, content_type=CONTENT_TYPE))
    return _response(content(answer), media_type, _status(answer, media_type))


def _is_a_browser_looking(request: HttpRequest) -> bool:
    return (
        bool(settings.GRAPHIQL)
        and request.method == "GET"
        and "query" not in request.GET
        and request.get_preferred_type([JSON, GRAPHQL_RESPONSE, HTML]) == HTML
    )


def _graphiql(request: HttpRequest) -> HttpResponse:
    response = render(request, "graphql_api/graphiql.html")
    # Its fonts are data: URLs inside its style sheet, and its dialogs write style sheets of their own.
    policy = {"style-src": ["'self'", "'unsafe-inline'"], "font-src": ["'self'", "data:"]}
    response._csp_update = policy  # type: ignore[attr-defined]  # what csp_update would set, had it an async form
    return response


def _check_csrf(request: HttpRequest) -> None:
    if bearer(request.headers.get("Authorization")) is None and (reason := forgery(request)) is not None:
        raise RequestRefusedError(
            HTTPStatus.FORBIDDEN,
            _("A session's request needs its CSRF token in the header X-CSRFToken. %(why)s") % {"why": reason},
            "CSRF",
        )


def _from_query_string(request: HttpRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {name: request.GET[name] for name in ("query", "operationName") if name in request.GET}
    for name in ("variables", "extensions"):
        if request.GET.get(name):
            parameters[name] = parsed(request.GET[name].encode(), name)
    return parameters


def _from_body(request: HttpRequest, most: int) -> dict[str, Any]:
    if request.content_type != JSON or (request.content_params or {}).get("charset", "utf-8").lower() not in (
        "utf-8",
        "utf8",
    ):
        raise RequestRefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _("Send the body as %(type)s in UTF-8.") % {"type": JSON}
        )
    _check_length(request, most)
    body = request.body
    if len(body) > most:
        raise too_large(most)
    return _an_object(parsed(body, _("The body")))


def _from_multipart(request: HttpRequest, most: int) -> dict[str, Any]:
    _check_length(request, most)
    if not request.headers.get("Content-Length", "").isdecimal():
        raise RequestRefusedError(HTTPStatus.LENGTH_REQUIRED, _("Say how long the body is, in Content-Length."))
    _check_csrf(request)
    try:
        operations, places = multipart.fields(request)
        return _an_object(multipart.placed(parsed(operations, "operations"), parsed(places, "map"), request))
    except multipart.MultipartError as error:
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error


def _check_length(request: HttpRequest, most: int) -> None:
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large(most)


def _an_object(parameters: Any) -> dict[str, Any]:
    if isinstance(parameters, list):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("Batches are not supported: send one request at a time."))
    if not isinstance(parameters, dict):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("The body is a JSON object with a `query`."))
    return parameters


def too_large(most: int) -> RequestRefusedError:
    return RequestRefusedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("The body has more than %(most)d bytes, which is the most that is read.") % {"most": most},
    )


def parsed(text: bytes, what: str) -> Any:
    try:
        value = json.loads(text.decode(), parse_constant=_refuse_constant)
        if _HALF_OF_A_SURROGATE_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError(
            HTTPStatus.BAD_REQUEST, _("%(what)s is not JSON (RFC 8259) in UTF-8.") % {"what": what}
        ) from error
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def checked(parameters: dict[str, Any]) -> tuple[str, dict[str, Any] | None, str | None]:
    document, variables, name = (parameters.get(key) for key in ("query", "variables", "operationName"))
    if not isinstance(document, str) or not document.strip():
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("`query` is missing: it is the document, a string."))
    if variables is not None and not isinstance(variables, dict):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("`variables` is an object."))
    if name is not None and not isinstance(name, str):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("`operationName` is a string."))
    if not isinstance(parameters.get("extensions"), dict | None):
        raise RequestRefusedError(HTTPStatus.BAD_REQUEST, _("`extensions` is an object."))
    return document, variables, name or None


def _status(answer: Answer, media_type: str) -> HTTPStatus:
    """400 for a request that was refused; clients of plain application/json expect 200 for all that GraphQL answers."""
    return HTTPStatus.OK if answer.executed or media_type == JSON else HTTPStatus.BAD_REQUEST


def _response(content: dict[str, Any], media_type: str, status: HTTPStatus) -> HttpResponse:
    # What cannot be answered at all is no event.
    kind = JSON if media_type == EVENT_STREAM else media_type
    return _sent(HttpResponse(encoded(content), content_type=f"{kind}; charset=utf-8", status=status))


def _sent(response: AnyResponse) -> AnyResponse:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    return response
