"""The one list of expected failures. Every door translates these, and nothing else, into its protocol's own form."""

from datetime import datetime
from decimal import Decimal
from typing import ClassVar


class MarketplaceError(Exception):
    """An expected failure: `code` is stable, the message for people, `path` names the field (`input.inputs.0.shape`).

    `http_status` is RFC 9110's, `grpc_status` the name of a canonical gRPC status code.
    """

    code: ClassVar[str]
    http_status: ClassVar[int]
    grpc_status: ClassVar[str]

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class Unauthenticated(MarketplaceError):
    code = "UNAUTHENTICATED"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class ValidationProblem(MarketplaceError):
    code = "VALIDATION"
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class PayloadTooLarge(ValidationProblem):
    """More than is read at all."""

    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class Conflict(ValidationProblem):
    """Somebody else was first, and what was asked for no longer fits."""

    http_status = 409
    grpc_status = "ABORTED"


class NotFound(MarketplaceError):
    """Missing, or not for this principal to see: the two answer alike."""

    code = "NOT_FOUND"
    http_status = 404
    grpc_status = "NOT_FOUND"


class PermissionDenied(MarketplaceError):
    code = "PERMISSION_DENIED"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class SubscriptionRequired(MarketplaceError):
    code = "SUBSCRIPTION_REQUIRED"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class QuotaExceeded(MarketplaceError):
    """`limit` and `remaining` in units of the plan; `resets_at` is when the next period starts."""

    code = "QUOTA_EXCEEDED"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(
        self, message: str, *, limit: Decimal, remaining: Decimal, resets_at: datetime, path: str | None = None
    ) -> None:
        super().__init__(message, path=path)
        self.limit = limit
        self.remaining = remaining
        self.resets_at = resets_at


class BudgetExceeded(MarketplaceError):
    """A tenant's spending cap or an API key's budget. `limit` and `remaining` in `currency` (ISO 4217)."""

    code = "BUDGET_EXCEEDED"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        message: str,
        *,
        limit: Decimal,
        remaining: Decimal,
        currency: str,
        resets_at: datetime,
        path: str | None = None,
    ) -> None:
        super().__init__(message, path=path)
        self.limit = limit
        self.remaining = remaining
        self.currency = currency
        self.resets_at = resets_at


class RateLimited(MarketplaceError):
    code = "RATE_LIMITED"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after_ms: int, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.retry_after_ms = retry_after_ms


class IdempotencyConflict(MarketplaceError):
    code = "IDEMPOTENCY_CONFLICT"
    http_status = 409
    grpc_status = "ALREADY_EXISTS"


class ModelUnavailable(MarketplaceError):
    """Nothing that could answer is up. `retry_after_ms` is a hint, None when retrying alone will not help."""

    code = "MODEL_UNAVAILABLE"
    http_status = 503
    grpc_status = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_ms: int | None = None, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.retry_after_ms = retry_after_ms


class TakenDown(ModelUnavailable):
    """The operator has taken the model out of the marketplace."""


class DeadlineExceeded(ModelUnavailable):
    """The model did not answer in the time that there was for it."""

    code = "DEADLINE_EXCEEDED"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class InferenceFailed(MarketplaceError):
    """The model itself refused or broke; nothing is charged."""

    code = "INFERENCE_FAILED"
    http_status = 500
    grpc_status = "INTERNAL"


class InputRefused(InferenceFailed):
    """What the model says is wrong with the input, though it fits the signature."""

    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
