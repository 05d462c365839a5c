"""Settlements whose outcome nobody knows: the caller has been told that the call failed, so it must not be charged.

PostgreSQL may have gone away between COMMIT and its acknowledgement, or have answered too late. Once it can be reached,
what is still open is given back, and what was charged without being delivered is refunded by adjusting entries. When
this process is killed meanwhile, a charge may stay without its answer: an idempotency key keeps it for the retry.
"""

import asyncio
import logging
from typing import LiteralString
from uuid import UUID
from weakref import WeakKeyDictionary

from marketplace.errors import ModelUnavailable

from .connections import connection

log = logging.getLogger(__name__)

MOST = 10_000
MOST_AT_ONCE = 64
RETRY_SECONDS = 0.5

RELEASE: LiteralString = "SELECT metering_release(%s::uuid[], array_fill('MODEL_UNAVAILABLE'::text, ARRAY[%s::int]))"
REFUND: LiteralString = "SELECT metering_refund(%s::uuid[], 'UNDELIVERED')"


class _Doubts:
    """This event loop's."""

    def __init__(self) -> None:
        self.refund: dict[UUID, bool] = {}
        self.resolving: asyncio.Task[None] | None = None

    async def resolve(self) -> None:
        while self.refund:
            holds = list(self.refund)[:MOST_AT_ONCE]
            try:
                async with connection() as db:
                    # In this order: a settlement that is still under way finds its hold released, and charges nothing.
                    await db.execute(RELEASE, (holds, len(holds)))
                    await db.execute(REFUND, ([hold for hold in holds if self.refund[hold]],))
            except ModelUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("settlements in doubt cannot be resolved yet: %s", holds)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                for hold in holds:
                    del self.refund[hold]


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Doubts] = WeakKeyDictionary()


def _doubts() -> _Doubts:
    return _by_loop.setdefault(asyncio.get_running_loop(), _Doubts())


def resolve(hold_id: UUID, *, refund: bool) -> None:
    """Gives the hold back as soon as the records can be reached; with `refund`, its charge as well if there is one."""
    doubts = _doubts()
    if len(doubts.refund) >= MOST:
        log.error("too many settlements in doubt: hold %s is left to expire, or charged without an answer", hold_id)
        return
    doubts.refund[hold_id] = refund
    if doubts.resolving is None or doubts.resolving.done():
        doubts.resolving = asyncio.ensure_future(doubts.resolve())


async def resolved() -> None:
    """Returns once nothing of this event loop is in doubt."""
    doubts = _doubts()
    if doubts.resolving is not None:
        await doubts.resolving
