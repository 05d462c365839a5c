"""Admit, settle, release: PostgreSQL alone decides (migrations/batches.sql), for all who wait in one round trip."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from typing import Any, LiteralString, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
import uuid_utils.compat as uuid
from django.utils.translation import gettext as _

from marketplace.access import Principal, TenantRole
from marketplace.draining import ending, restarting
from marketplace.errors import (
    BudgetExceeded,
    IdempotencyConflict,
    MarketplaceError,
    ModelUnavailable,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    SubscriptionRequired,
    Unauthenticated,
)

from . import doubts
from .batches import Lane, Question, arrays, ask_one_by_one_if_need_be
from .connections import WAIT_SECONDS

log = logging.getLogger(__name__)

# The contract keeps an idempotency key's answer for at least a billing period.
ANSWER_SECONDS = 32 * 24 * 3600.0
MAX_ANSWER_BYTES = 1024 * 1024
# A larger one travels alone, so that it keeps nobody waiting.
LARGE_ANSWER_BYTES = 64 * 1024

# How long a concurrent call may take is anybody's guess.
CONCURRENCY_RETRY_MS = 200
# What a call whose process has died gets back after; one that runs longer is extended (heartbeats.py).
LEASE_SECONDS = 15.0

ADMIT: LiteralString = (
    "SELECT * FROM metering_admit(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::numeric[], "
    "%s::numeric[], %s::text[], %s::bytea[], %s::float8[], %s::text[], %s::text[], %s::int[])"
)
SETTLE: LiteralString = "SELECT metering_settle(%s::uuid[], %s::float8[], %s::numeric[], %s::bytea[], %s::bytea[], %s)"
RELEASE: LiteralString = "SELECT metering_release(%s::uuid[], %s::text[])"
SETTLED: LiteralString = (
    "SELECT array_agg(coalesce(a.units, CASE h.state WHEN 'settled' THEN h.charged END) ORDER BY position) "
    "FROM unnest(%s::uuid[], %s::numeric[]) WITH ORDINALITY AS a (id, units, position) "
    "LEFT JOIN metering_hold h USING (id)"
)

Connection = psycopg.AsyncConnection[Any]
# outcome, hold, unit, units, limit, remaining, currency, resets_at, retry_after_ms
Row = tuple[Any, ...]


class Hint(NamedTuple):
    """What a caller goes by without having looked: the key's role, and that `ref`, in this version of it or its live
    one (None), is the version that is to be called."""

    role: TenantRole | None
    ref: str
    number: int | None


NO_HINT = (None, None, None)


class Moved(Exception):
    """What the caller went by is no longer so. Nothing is held: look it up, and ask again."""


@dataclass(frozen=True, slots=True)
class Admission:
    """`units` of the plan's `unit` (a MeteredUnit) are set aside: for seconds, no more than these are paid for.

    `replayed`: this request was settled before under its idempotency key; nothing is held, nothing is to be run.
    """

    hold_id: UUID
    replayed: bool
    unit: str
    units: Decimal


async def admit(
    principal: Principal,
    *,
    version_id: UUID,
    most_seconds: float,
    elements: int = 1,
    lease: float = LEASE_SECONDS,
    idempotency_key: str | None = None,
    digest: bytes | None = None,
    hint: Hint | None = None,
) -> Admission:
    """Sets aside what a call of `elements` input elements and at most `most_seconds` may cost. Own models need no plan.

    After `lease` seconds it is given back, unless it is extended. Raises SubscriptionRequired, RateLimited,
    QuotaExceeded, BudgetExceeded, IdempotencyConflict, or ModelUnavailable (try again) when the same call is still
    running or the records are out of reach; Unauthenticated, PermissionDenied and NotFound for what is no longer valid.
    With a `hint`: Moved, before any of these.
    """
    if ending().is_set():
        raise restarting()
    question = (
        uuid.uuid7(),
        principal.tenant_id,
        principal.api_key_id,
        principal.user_id,
        version_id,
        elements,
        most_seconds,
        idempotency_key,
        digest,
        lease,
        *(hint or NO_HINT),
    )
    outcome, hold_id, unit, units, *terms = await _lanes().admit(principal.tenant_id, question)
    if outcome in ("admitted", "replay"):
        return Admission(hold_id, outcome == "replay", unit, units)
    if outcome == "moved":
        raise Moved
    raise _refusal(outcome, terms)


def _refusal(outcome: str, terms: Sequence[Any]) -> MarketplaceError:
    limit, remaining, currency, resets_at, retry_after_ms = terms
    match outcome:
        case "key_invalid":
            return Unauthenticated(_("This API key has expired or was revoked. Create another one under API keys."))
        case "not_a_member":
            return PermissionDenied(_("You no longer belong to this tenant."))
        case "not_callable":
            return NotFound(_("This version can no longer be called."), path="input.version")
        case "no_subscription":
            return SubscriptionRequired(
                _("Your tenant has no active subscription to this model: subscribe to one of its plans first."),
                path="input.model",
            )
        case "awaits_approval":
            return SubscriptionRequired(
                _("Your tenant has asked for a subscription to this model: its publisher has not decided yet."),
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
        case "too_many_at_once":
            return RateLimited(
                _("Your plan lets %(most)d calls run at the same time. Try again when one of them is done.")
                % {"most": limit},
                retry_after_ms=CONCURRENCY_RETRY_MS,
            )
        case "cap_exceeded" | "budget_exceeded":
            text = (
                _("Your tenant's spending cap of %(limit)s a month is too little for this call until %(resets_at)s.")
                if outcome == "cap_exceeded"
                else _("This API key's budget of %(limit)s a month is too little for this call until %(resets_at)s.")
            )
            return BudgetExceeded(
                text % {"limit": f"{limit.normalize():f} {currency}", "resets_at": f"{resets_at:%Y-%m-%d %H:%M} UTC"},
                limit=limit,
                remaining=remaining,
                currency=currency,
                resets_at=resets_at,
            )
        case "quota_exceeded":
            return QuotaExceeded(
                _("The plan's %(limit)s units of this period are used up. They are back at %(resets_at)s.")
                % {"limit": f"{limit.normalize():f}", "resets_at": f"{resets_at:%Y-%m-%d %H:%M} UTC"},
                limit=limit,
                remaining=remaining,
                resets_at=resets_at,
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
    hold_id: UUID,
    *,
    latency_ms: float,
    tokens: int | None = None,
    answer: bytes | None = None,
    answer_digest: bytes | None = None,
) -> Decimal | None:
    """Charges the hold and says how many units. None when it has expired: nothing is charged, nothing may be delivered.

    `tokens` where the plan counts them; what it does not say is charged as held, and never more than that.
    `answer` is kept for replays, unless it is larger than MAX_ANSWER_BYTES; `answer_digest` (SHA-256) for the receipt.
    Raises ModelUnavailable when the records are out of reach: nothing may be delivered, and whatever is charged after
    all is taken back, unless the answer is kept for the caller to ask for.
    """
    kept = answer if answer is not None and len(answer) <= MAX_ANSWER_BYTES else None
    question = (hold_id, latency_ms, tokens, kept, answer_digest)
    try:
        if kept is None or len(kept) <= LARGE_ANSWER_BYTES:
            return await _lanes().settle(None, question)
        (done,) = await _settle([question])
        if isinstance(done, BaseException):
            raise done
        return done
    except ModelUnavailable:
        doubts.resolve(hold_id, refund=kept is None)
        raise


async def release(hold_id: UUID, *, because: str) -> bool:
    """Gives the units back. `because` is a problem's code, or CANCELLED. False when the hold was no longer held."""
    return await _lanes().release(None, (hold_id, because))


async def idle() -> None:
    """Returns once this event loop has no call under way, and has given back what abandoned ones were admitted to."""
    lanes = _lanes()
    for lane in (lanes.admit, lanes.settle, lanes.release):
        await lane.idle()


async def _admit(questions: Sequence[Question]) -> list[Row | BaseException]:
    return await ask_one_by_one_if_need_be(_ask_admit, questions)


async def _settle(questions: Sequence[Question]) -> list[Decimal | BaseException | None]:
    started = monotonic()
    answers = await ask_one_by_one_if_need_be(_ask_settle, questions)
    # Later than this the callers are told that it failed: settling then would charge what is not delivered.
    if monotonic() - started > WAIT_SECONDS / 2 or not any(isinstance(answer, ModelUnavailable) for answer in answers):
        return answers
    # The connection broke, perhaps between COMMIT and its acknowledgement. A hold is settled by whoever holds it and
    # nobody else, so one that is settled by now was settled by us, just before.
    return await ask_one_by_one_if_need_be(_ask_settle_again, questions)


async def _release(questions: Sequence[Question]) -> list[bool | BaseException]:
    return await ask_one_by_one_if_need_be(_ask_release, questions)


async def _ask_admit(db: Connection, questions: Sequence[Question]) -> list[Row]:
    cursor = await db.execute(ADMIT, arrays(questions))
    return await cursor.fetchall()


async def _ask_settle(db: Connection, questions: Sequence[Question]) -> list[Decimal | None]:
    return await _array(db, SETTLE, [*arrays(questions), ANSWER_SECONDS])


async def _ask_settle_again(db: Connection, questions: Sequence[Question]) -> list[Decimal | None]:
    done = await _ask_settle(db, questions)
    return await _array(db, SETTLED, [[question[0] for question in questions], done])


async def _ask_release(db: Connection, questions: Sequence[Question]) -> list[bool]:
    return await _array(db, RELEASE, arrays(questions))


async def _array(db: Connection, statement: LiteralString, arguments: list[Any]) -> list[Any]:
    row = await (await db.execute(statement, arguments)).fetchone()
    assert row is not None
    answers: list[Any] = row[0]
    return answers


async def _nobody_waits_for(row: Row) -> None:
    outcome, hold_id, *_terms = row
    if outcome == "admitted":
        try:
            await release(hold_id, because="CANCELLED")
        except MarketplaceError as error:
            log.warning("hold %s is left to expire: %s", hold_id, error)


class _Lanes:
    """This event loop's."""

    def __init__(self) -> None:
        self.admit: Lane[Row] = Lane(_admit, abandoned=_nobody_waits_for)
        self.settle: Lane[Decimal | None] = Lane(_settle)
        self.release: Lane[bool] = Lane(_release)


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lanes] = WeakKeyDictionary()


def _lanes() -> _Lanes:
    loop = asyncio.get_running_loop()
    lanes = _by_loop.get(loop)
    if lanes is None:
        lanes = _by_loop[loop] = _Lanes()
    return lanes
