"""A browser's session where no middleware of Django's has run: who it is, and whether this site's page sent it."""

from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware

from marketplace.edge import Scope


def request_of(scope: Scope, method: str = "GET") -> HttpRequest:
    """What a view would be given, but without a body: `session` and `user` are loaded when they are asked for."""
    request = ASGIRequest({**scope, "type": "http", "method": method}, BytesIO())
    for middleware in (SessionMiddleware, AuthenticationMiddleware):
        middleware(_unused).process_request(request)
    return request


def forgery(request: HttpRequest) -> str | None:
    """Why a request with a session's cookie may come from another site's page; None when it does not, or has none."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return None
    check = CsrfCheck(_unused)
    check.process_request(request)
    reason: Any = check.process_view(request, _unused, (), {})
    return reason  # type: ignore[no-any-return]


class CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        """The reason, where Django's own would answer with a page."""
        return reason


def _unused(_request: HttpRequest) -> HttpResponseBase:
    return HttpResponse()
