"""Expected failures as the contract's Problems, everything else as top-level errors that give nothing away."""

import dataclasses
import logging
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
from graphql import GraphQLError

from marketplace.edge import masked
from marketplace.errors import MarketplaceError

from .context import DATABASE_IS_AWAY, records_out_of_reach

log = logging.getLogger(__name__)


@strawberry.interface(
    description="An expected failure. `code` is stable, `message` is for people, "
    "`path` names the input field, as in input.inputs.0.shape."
)
class Problem:
    code: str
    message: str
    path: str | None = None


@strawberry.type
class ValidationProblem(Problem):
    pass


@strawberry.type
class NotFound(Problem):
    pass


@strawberry.type
class PermissionDenied(Problem):
    pass


@strawberry.type
class SubscriptionRequired(Problem):
    pass


@strawberry.type(description="`limit` and `remaining` in units of the plan.")
class QuotaExceeded(Problem):
    limit: Decimal
    remaining: Decimal
    resets_at: datetime


@strawberry.type(
    description="The tenant's spending cap or the API key's budget. `limit` and `remaining` in `currency` (ISO 4217)."
)
class BudgetExceeded(Problem):
    limit: Decimal
    remaining: Decimal
    currency: str
    resets_at: datetime


@strawberry.type
class RateLimited(Problem):
    retry_after_ms: int


@strawberry.type
class IdempotencyConflict(Problem):
    pass


@strawberry.type(description="Nothing that could answer is up. Without `retryAfterMs`, retrying alone will not help.")
class ModelUnavailable(Problem):
    retry_after_ms: int | None = None


@strawberry.type
class InferenceFailed(Problem):
    pass


# A Problem has the name of the error it stands for.
PROBLEMS: tuple[type[Problem], ...] = (
    ValidationProblem,
    NotFound,
    PermissionDenied,
    SubscriptionRequired,
    QuotaExceeded,
    BudgetExceeded,
    RateLimited,
    IdempotencyConflict,
    ModelUnavailable,
    InferenceFailed,
)


def problem_of(error: MarketplaceError) -> Problem:
    """The error as its Problem, by the name of its class or of the nearest base that has one."""
    names = [base.__name__ for base in type(error).__mro__]
    kind = min((kind for kind in PROBLEMS if kind.__name__ in names), key=lambda kind: names.index(kind.__name__))
    return kind(**{field.name: getattr(error, field.name) for field in dataclasses.fields(kind)})


def formatted(found: Iterable[GraphQLError]) -> list[dict[str, Any]]:
    """Top-level `errors` as GraphQL has them; whatever was not expected is logged once and masked."""
    return [_formatted(error) for error in found]


def _formatted(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, DATABASE_IS_AWAY):
        log.warning("the database is away: %s", cause)
        cause = records_out_of_reach()
    answer: dict[str, Any] = dict(error.formatted)
    if isinstance(cause, MarketplaceError):
        answer["message"] = cause.message
        answer["extensions"] = {"code": cause.code} | ({"path": cause.path} if cause.path else {})
    elif cause is None or isinstance(cause, GraphQLError):
        answer["extensions"] = {"code": "BAD_REQUEST"} | answer.get("extensions", {})
    else:
        answer["message"], reference = masked(cause, error.path)
        answer["extensions"] = {"code": "INTERNAL", "reference": reference}
    return answer


def request_error(error: MarketplaceError) -> dict[str, Any]:
    """An error of the whole request, before anything was executed."""
    return _formatted(GraphQLError(error.message, original_error=error))
