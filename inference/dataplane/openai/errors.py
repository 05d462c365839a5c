"""Failures in OpenAI's form: {"error": {"message", "type", "param", "code"}}, with the statuses and headers it has.

Source: OpenAI's API reference ("Error codes", "Rate limits"), and the headers that its Python client acts on.
"""

import logging
import re
from dataclasses import dataclass
from math import ceil
from typing import Any

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from marketplace.edge import Headers, masked
from marketplace.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    IdempotencyConflict,
    InferenceFailed,
    InputRefused,
    MarketplaceError,
    ModelUnavailable,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    SubscriptionRequired,
    Unauthenticated,
    ValidationProblem,
)
from marketplace.metering.connections import out_of_reach

log = logging.getLogger(__name__)

JSON = (b"content-type", b"application/json")

# Of each error, or of its nearest base that is here: OpenAI's `type` and `code`.
_KINDS: dict[type[MarketplaceError], tuple[str, str | None]] = {
    MarketplaceError: ("server_error", None),
    Unauthenticated: ("invalid_request_error", "invalid_api_key"),
    ValidationProblem: ("invalid_request_error", None),
    NotFound: ("invalid_request_error", "model_not_found"),
    PermissionDenied: ("invalid_request_error", "insufficient_permissions"),
    SubscriptionRequired: ("invalid_request_error", "subscription_required"),
    QuotaExceeded: ("insufficient_quota", "insufficient_quota"),
    BudgetExceeded: ("insufficient_quota", "billing_hard_limit_reached"),
    RateLimited: ("requests", "rate_limit_exceeded"),
    IdempotencyConflict: ("invalid_request_error", "idempotency_conflict"),
    ModelUnavailable: ("server_error", "model_unavailable"),
    DeadlineExceeded: ("server_error", "deadline_exceeded"),
    InferenceFailed: ("server_error", "inference_failed"),
    InputRefused: ("invalid_request_error", None),
}

# Paths of `invoke` whose fields this door has under another name; of parameters, the last word is the name.
_PARAMETER = re.compile(r"input\.parameters\.(\w+)")
_MODEL = re.compile(r"input\.(model|version)\b")
_INPUTS = re.compile(r"input\.inputs\b")


class Refused(ValidationProblem):
    """What this door does not take. `path` is the body's own field, which OpenAI calls `param`."""

    def __init__(
        self, message: str, *, path: str | None, code: str | None = None, http_status: int = 400, allow: str = ""
    ) -> None:
        super().__init__(message, path=path)
        self.kind = code
        self.status = http_status
        self.allow = allow


@dataclass(frozen=True, slots=True)
class Failure:
    status: int
    headers: Headers
    content: dict[str, Any]


def failure(error: Exception, *, subject: str | None = None) -> Failure:
    """What the caller is told. `subject`: the body's field that became the model's input.

    What was not expected is logged, and told by a reference alone.
    """
    if isinstance(error, OperationalError | InterfaceError):
        log.warning("the database is away: %s", error)
        error = out_of_reach()
    if not isinstance(error, MarketplaceError):
        message, _reference = masked(error)
        return Failure(500, [JSON], _content(message, "server_error", None, "internal_error"))
    kind, code = next(_KINDS[base] for base in type(error).__mro__ if base in _KINDS)
    status, param = error.http_status, error.path
    if isinstance(error, Refused):
        status, code = error.status, error.kind
    elif param is not None:
        param = _param(param, subject)
    elif isinstance(error, InputRefused):
        param = subject
    return Failure(status, [JSON, *_headers(error)], _content(error.message, kind, param, code))


def _param(path: str, subject: str | None) -> str | None:
    if _MODEL.match(path):
        return "model"
    if _INPUTS.match(path):
        return subject
    parameter = _PARAMETER.match(path)
    return parameter[1] if parameter else None


def _content(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _headers(error: MarketplaceError) -> Headers:
    match error:
        case Refused(allow=str(method)) if method:
            return [(b"allow", method.encode())]
        case Unauthenticated():
            return [(b"www-authenticate", b"Bearer")]
        case QuotaExceeded() | BudgetExceeded():
            # Nothing that a client's own retries could wait for.
            seconds = ceil((error.resets_at - timezone.now()).total_seconds())
            return [(b"retry-after", _number(max(seconds, 1))), (b"x-should-retry", b"false")]
        case RateLimited():
            wait = _number(error.retry_after_ms)
            return [
                *_retry_after(error.retry_after_ms),
                (b"x-ratelimit-remaining-requests", b"0"),
                (b"x-ratelimit-reset-requests", wait + b"ms"),
            ]
        case ModelUnavailable(retry_after_ms=int(wait_ms)):
            return _retry_after(wait_ms)
        case IdempotencyConflict():
            return [(b"x-should-retry", b"false")]
    return []


def _retry_after(milliseconds: int) -> Headers:
    """In whole seconds as HTTP has it, and exactly for the clients that understand that."""
    return [(b"retry-after", _number(max(ceil(milliseconds / 1000), 1))), (b"retry-after-ms", _number(milliseconds))]


def _number(value: int) -> bytes:
    return str(value).encode()
