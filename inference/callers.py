"""Who calls, by API key alone: no session, no ORM, no thread. Every door that takes keys comes this way.

Whom a key stands for is remembered, and so is the version that a name means; admission confirms both in the round trip
that it needs in any case. What it does not confirm is looked up, and asked for again.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.conf import settings
from django.utils.translation import gettext as _

from marketplace.access import ANONYMOUS, Principal
from marketplace.errors import RateLimited
from marketplace.metering.admission import Moved
from marketplace.metering.connections import fetched
from marketplace.tenants.authentication import hinted_principal, principal_by_key

from .invocation import Chunk, Invocation, invoke, stream

T = TypeVar("T")

RETRY_AFTER_MS = 200

_under_way: Counter[str] = Counter()


async def principal_by_secret(secret: str | None) -> Principal:
    """Looked up anew. Raises Unauthenticated for a key that is not valid, ModelUnavailable when nobody can tell."""
    return ANONYMOUS if secret is None else await principal_by_key(secret, fetched)


@contextmanager
def place_of(secret: str) -> Iterator[None]:
    """One of the calls that a key may have under way in this process. Raises RateLimited when it has them all."""
    if _under_way[secret] >= settings.CALLS_PER_KEY:
        raise RateLimited(
            _("This API key has %(most)d calls under way, which is the most. Try again when one of them is done.")
            % {"most": settings.CALLS_PER_KEY},
            retry_after_ms=RETRY_AFTER_MS,
        )
    _under_way[secret] += 1
    try:
        yield
    finally:
        _under_way[secret] -= 1
        if not _under_way[secret]:
            del _under_way[secret]


async def as_caller(secret: str, work: Callable[[Principal, bool], Awaitable[T]]) -> T:
    """What `work` makes of the principal: a remembered one first (True), for which it raises Moved if that is wrong."""
    principal = await hinted_principal(secret, fetched)
    if principal is not None:
        try:
            return await work(principal, True)
        except Moved:
            pass
    return await work(await principal_by_key(secret, fetched), False)


async def invoke_by_key(secret: str | None, **call: Any) -> Invocation:
    """`invoke` as whom the key stands for. Raises RateLimited as well, when the key has too many calls under way."""
    if secret is None:
        return await invoke(ANONYMOUS, **call)
    with place_of(secret):
        return await as_caller(secret, lambda principal, hinted: invoke(principal, **call, hinted=hinted))


async def stream_by_key(secret: str | None, **call: Any) -> AsyncGenerator[Chunk | Invocation]:
    """`stream` as whom the key stands for, and as invoke_by_key."""

    async def started(principal: Principal, hinted: bool) -> tuple[AsyncGenerator[Chunk | Invocation], Any]:
        events = stream(principal, **call, hinted=hinted)
        # Its admission comes with the first event.
        return events, await anext(events)

    if secret is None:
        await started(ANONYMOUS, False)
        return
    with place_of(secret):
        events, first = await as_caller(secret, started)
        try:
            yield first
            async for event in events:
                yield event
        finally:
            await events.aclose()
