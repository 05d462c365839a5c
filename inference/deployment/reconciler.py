"""Desired versions on every Triton endpoint: loads what is missing, mends what broke, unloads what nobody wants.

Desired state is in the database: every READY or LIVE version, on every endpoint, as far as there is memory. Actual
state is at the servers. Models are uploaded through Triton's API, so a server that restarts knows none of them, and the
next round brings them back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from inference import gateway
from inference.models import Deployment
from marketplace.errors import MarketplaceError
from marketplace.metering.connections import close, connection
from marketplace.publishing import releases

from . import desired, loading, stubs
from .names import is_left_trial, version_name
from .placement import Plan, Row, Seen, Wanted, plan

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x7265636F  # "reco": any number that nothing else locks
TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"
WAIT_FOR_LOCK = "SELECT true FROM pg_advisory_lock(%s)"

# On each endpoint; of those that take more than LARGE_BYTES of memory, one.
LOADS_AT_ONCE = 4
LARGE_BYTES = 1024**3
# While something is being loaded, how often to look for what has changed meanwhile.
LOOK_SECONDS = 0.5
LIVE_SECONDS = 1.0
STATISTICS_SECONDS = 10.0
USED_AGAIN = timedelta(minutes=1)

# Models that have names like ours and are somebody else's, by endpoint.
MOST_REMEMBERED = 10_000
_theirs: set[tuple[str, str]] = set()


async def reconcile(*, wait: bool = False) -> None:
    """Rounds over all endpoints, until nothing is being loaded or unloaded any more.

    Nobody else does the same meanwhile: with rounds under way elsewhere, `wait` for their end or leave it to them.
    """
    async with _alone(wait) as alone:
        if alone:
            await _Rounds().run()


def run_round(*, wait: bool = False) -> None:
    """`reconcile` from synchronous code, in an event loop of its own."""

    async def run() -> None:
        # Django's queries run in a thread that outlives this loop, and no request ever ends there: a connection that
        # PostgreSQL has dropped would fail every round from then on.
        await sync_to_async(close_old_connections)()
        try:
            await reconcile(wait=wait)
        finally:
            await gateway.close()
            await close()

    asyncio.run(run())


@asynccontextmanager
async def _alone(wait: bool) -> AsyncIterator[bool]:
    async with connection() as db:
        cursor = await db.execute(WAIT_FOR_LOCK if wait else TRY_LOCK, (ADVISORY_LOCK,))
        row = await cursor.fetchone()
        alone = bool(row and row[0])
        try:
            yield alone
        finally:
            if alone:
                await db.execute("SELECT pg_advisory_unlock(%s)", (ADVISORY_LOCK,))


class _Rounds:
    """A round looks, writes what it can at once, and starts what takes time; it waits for none of that."""

    def __init__(self) -> None:
        # What is under way: at which endpoint, with which name there.
        self._under_way: dict[asyncio.Task[None], tuple[str, UUID | None, str]] = {}
        self._todo: dict[str, list[Wanted]] = {}
        self._look_at = 0.0
        # Whether something has come or gone since the last look, so that there may be room for more.
        self._moved = False

    async def run(self) -> None:
        while True:
            if monotonic() >= self._look_at or (self._moved and not self._under_way):
                self._moved = False
                await self._look()
                self._look_at = monotonic() + LOOK_SECONDS
            self._start_loads()
            if not self._under_way:
                if not self._moved:
                    return
                continue
            await asyncio.wait(
                self._under_way,
                timeout=max(self._look_at - monotonic(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _look(self) -> None:
        busy = list(self._under_way.values())
        seen = dict(zip(settings.TRITON_URLS, await asyncio.gather(*map(_see, settings.TRITON_URLS)), strict=True))
        wanted, rows = await sync_to_async(desired.state)()
        now = timezone.now()
        plans = {
            endpoint: plan(
                wanted,
                rows[endpoint],
                found,
                now,
                loading={version_id for at, version_id, _name in busy if at == endpoint and version_id is not None},
                budget=settings.TRITON_MEMORY_BYTES,
            )
            for endpoint, found in seen.items()
            if found is not None
        }
        self._todo = {endpoint: made.loads for endpoint, made in plans.items()}
        await sync_to_async(_write)(plans, _uses(rows, seen), [at for at in rows if at not in settings.TRITON_URLS])
        releasing = {version.version_id for version in wanted.values() if version.releasing}
        await _promote(releasing, plans)
        for endpoint, made in plans.items():
            found = seen[endpoint]
            assert found is not None
            await self._start_unloads(endpoint, made.leaving, found, wanted)
            known = {row.name for row in rows[endpoint]} | {name for at, _version, name in busy if at == endpoint}
            self._start_orphans(endpoint, found, known)

    def _start_loads(self) -> None:
        for endpoint, todo in self._todo.items():
            under_way = [each for each in self._under_way.values() if each[0] == endpoint]
            free = LOADS_AT_ONCE - len(under_way)
            large = any(task.get_name() == "large" for task, at in self._under_way.items() if at[0] == endpoint)
            started: list[Wanted] = []
            for version in todo:
                if len(started) == free:
                    break
                is_large = version.memory_bytes > LARGE_BYTES
                if is_large and large:
                    continue
                large = large or is_large
                started.append(version)
                work = loading.load(endpoint, version, when_ready=partial(self._loaded, version))
                self._start(work, (endpoint, version.version_id, version.name), "large" if is_large else "")
            self._todo[endpoint] = [version for version in todo if version not in started]

    def _loaded(self, version: Wanted) -> None:
        self._moved = True
        if version.releasing:
            self._look_at = 0

    def _unloaded(self, row: Row, wanted: dict[UUID, Wanted]) -> None:
        desired.unloaded(row, wanted)
        self._moved = True

    async def _start_unloads(
        self, endpoint: str, leaving: Sequence[Row], seen: Seen, wanted: dict[UUID, Wanted]
    ) -> None:
        for row in await sync_to_async(desired.without_calls)(leaving, wanted) if leaving else ():
            names = [name for name in seen.models if version_name(name) == row.name]
            work = loading.unload(endpoint, names, then=partial(self._unloaded, row, wanted))
            self._start(work, (endpoint, row.version_id, row.name))

    def _start_orphans(self, endpoint: str, seen: Seen, known: set[str]) -> None:
        """Models that are ours, and that the database knows nothing of."""
        orphans: dict[str, list[str]] = {}
        for model, statistics in seen.models.items():
            name = model if is_left_trial(model, statistics.version) else version_name(model)
            if name is not None and name not in known and (endpoint, model) not in _theirs:
                orphans.setdefault(name, []).append(model)
        for name, models in orphans.items():
            self._start(_unload_orphan(endpoint, models), (endpoint, None, name))

    def _start(self, work: Coroutine[Any, Any, None], what: tuple[str, UUID | None, str], name: str = "") -> None:
        task = asyncio.create_task(_guarded(work, what), name=name)
        self._under_way[task] = what
        task.add_done_callback(self._under_way.pop)


async def _guarded(work: Coroutine[Any, Any, None], what: tuple[str, UUID | None, str]) -> None:
    """What befalls one version is nothing to the others."""
    endpoint, _version, name = what
    try:
        await work
    except MarketplaceError as error:
        log.warning("%s at %s: %s", name, endpoint, error)
    except Exception:
        log.exception("%s at %s", name, endpoint)


async def _unload_orphan(endpoint: str, models: Sequence[str]) -> None:
    if not await loading.unload_if_ours(endpoint, models):
        if len(_theirs) >= MOST_REMEMBERED:
            _theirs.clear()
        _theirs.update((endpoint, model) for model in models)


async def _see(endpoint: str) -> Seen | None:
    """None of a server that is down: it is left for the next round."""
    if not await gateway.is_server_live(endpoint, timeout=LIVE_SECONDS):
        return None
    try:
        models = await gateway.statistics(endpoint, timeout=STATISTICS_SECONDS)
    except MarketplaceError:
        return None
    processes = await asyncio.to_thread(stubs.running, endpoint)
    return Seen(
        {each.model: each for each in models},
        None if processes is None else {name: each.count for name, each in processes.items()},
    )


def _uses(rows: dict[str, list[Row]], seen: dict[str, Seen | None]) -> dict[int, datetime]:
    """When what was used since a while ago was last used."""
    uses = {}
    for endpoint, found in seen.items():
        for row in rows[endpoint] if found is not None else ():
            assert found is not None
            used_at = found.used_at(row.name)
            if used_at is not None and (row.used_at is None or used_at - row.used_at > USED_AGAIN):
                uses[row.pk] = used_at
    return uses


def _write(plans: dict[str, Plan], uses: dict[int, datetime], gone: list[str]) -> None:
    for endpoint, made in plans.items():
        if made.chill:
            desired.chill(made.chill)
        if made.revive:
            desired.revive(made.revive)
        if made.cold:
            desired.add_cold(endpoint, made.cold)
        if made.refused:
            desired.refuse(endpoint, made.refused, settings.TRITON_MEMORY_BYTES)
    if lost := [pk for made in plans.values() for pk in made.lost]:
        Deployment.objects.filter(pk__in=lost).delete()
    if uses:
        desired.used(uses)
    if gone:
        Deployment.objects.filter(endpoint__in=gone).delete()


async def _promote(releasing: set[UUID], plans: dict[str, Plan]) -> None:
    """What every server that answers has loaded goes live; there is at least one."""
    loaded = [made.ready for made in plans.values()]
    everywhere = releasing.intersection(*loaded) if loaded else set()
    if everywhere:
        await sync_to_async(releases.promote_ready)(everywhere)
