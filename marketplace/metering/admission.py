"""Admit, settle, release: one round trip to PostgreSQL each, which alone decides (migrations/metering.sql)."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import uuid_utils.compat as uuid
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.errors import (
    IdempotencyConflict,
    MarketplaceError,
    ModelUnavailable,
    QuotaExceeded,
    RateLimited,
    SubscriptionRequired,
)

from .connections import connection

# The contract keeps an idempotency key's answer for at least a billing period.
ANSWER_SECONDS = 32 * 24 * 3600.0
MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Admission:
    """`replayed`: this request was settled before under its idempotency key; nothing is held, nothing is to be run."""

    hold_id: UUID
    replayed: bool


async def admit(
    principal: Principal,
    *,
    version_id: UUID,
    units: Decimal,
    seconds: float,
    idempotency_key: str | None = None,
    digest: bytes | None = None,
) -> Admission:
    """Sets `units` aside for at most `seconds`. A tenant's own models need no subscription.

    Raises SubscriptionRequired, RateLimited, QuotaExceeded, IdempotencyConflict, or ModelUnavailable (try again) when
    the same call is still running or the records are out of reach.
    """
    async with connection() as db:
        cursor = await db.execute(
            "SELECT * FROM metering_admit(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                uuid.uuid7(),
                principal.tenant_id,
                principal.api_key_id,
                principal.user_id,
                version_id,
                units,
                idempotency_key,
                digest,
                seconds,
            ),
        )
        row = await cursor.fetchone()
    assert row is not None
    outcome, hold_id, limit, remaining, resets_at, retry_after_ms = row
    if outcome in ("admitted", "replay"):
        return Admission(hold_id=hold_id, replayed=outcome == "replay")
    raise _refusal(outcome, limit, remaining, resets_at, retry_after_ms)


def _refusal(
    outcome: str, limit: Decimal, remaining: Decimal, resets_at: object, retry_after_ms: int
) -> MarketplaceError:
    match outcome:
        case "no_subscription":
            return SubscriptionRequired(
                _("Your tenant has no active subscription to this model: subscribe to one of its plans first."),
                path="input.model",
            )
        case "suspended":
            return SubscriptionRequired(
                _("Your subscription to this model is suspended: its publisher has withdrawn the access."),
                path="input.model",
            )
        case "rate_limited":
            return RateLimited(
                _("Too many calls for your plan's rate. Try again in %(ms)d ms.") % {"ms": retry_after_ms},
                retry_after_ms=retry_after_ms,
            )
        case "quota_exceeded":
            return QuotaExceeded(
                _("The plan's %(limit)s units of this period are used up. They are back at %(resets_at)s.")
                % {"limit": f"{limit.normalize():f}", "resets_at": f"{resets_at:%Y-%m-%d %H:%M} UTC"},
                limit=limit,
                remaining=remaining,
                resets_at=resets_at,  # type: ignore[arg-type]
            )
        case "idempotency_conflict":
            return IdempotencyConflict(
                _("This idempotency key was used for another request. Use a new one for each request."),
                path="input.idempotencyKey",
            )
        case "in_progress":
            return ModelUnavailable(
                _("The first call with this idempotency key is still running. Ask again shortly for its answer."),
                retry_after_ms=500,
                path="input.idempotencyKey",
            )
    raise AssertionError(f"metering_admit answered {outcome!r}")


async def settle(
    hold_id: UUID, *, units: Decimal, latency_ms: float, answer: bytes | None = None, answer_digest: bytes | None = None
) -> bool:
    """Charges `units`. False when the hold has expired meanwhile: then nothing is charged and nothing may be delivered.

    `answer` is kept for replays, unless it is larger than MAX_ANSWER_BYTES; `answer_digest` (SHA-256) for the receipt.
    """
    kept = answer if answer is not None and len(answer) <= MAX_ANSWER_BYTES else None
    # A pipeline is one round trip and one transaction.
    async with connection() as db, db.pipeline():
        cursor = await db.execute(
            "SELECT metering_settle(%s, %s, %s, %s, %s)", (hold_id, units, latency_ms, kept, ANSWER_SECONDS)
        )
        if answer_digest is not None:
            await db.execute(
                "UPDATE metering_hold SET answer_digest = %s "
                "WHERE id = %s AND state = 'settled' AND answer_digest IS NULL",
                (answer_digest, hold_id),
            )
        row = await cursor.fetchone()
    return bool(row and row[0])


async def release(hold_id: UUID, *, because: str) -> bool:
    """Gives the units back. `because` is a problem's code, or CANCELLED. False when the hold was no longer held."""
    async with connection() as db:
        cursor = await db.execute("SELECT metering_release(%s, %s)", (hold_id, because))
        row = await cursor.fetchone()
    return bool(row and row[0])
