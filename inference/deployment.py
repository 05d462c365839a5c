"""Desired versions on every Triton endpoint: loads what is missing, mends what broke, unloads what nobody wants.

Desired state is in the database: every READY or LIVE version, on every endpoint. Actual state is at the servers. Models
are uploaded through Triton's API, so a server that restarts knows none of them, and the next round brings them back.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from marketplace.catalog.models import ModelVersion
from marketplace.errors import MarketplaceError
from marketplace.metering.connections import close, connection
from marketplace.objects import store
from marketplace.publishing import releases

from . import gateway, repository
from .models import Deployment, DeploymentStatus
from .signatures import signature_of

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x7265636F  # "reco": any number that nothing else locks
TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"
WAIT_FOR_LOCK = "SELECT true FROM pg_advisory_lock(%s)"
LOADS_AT_ONCE = 2
LONGEST_RETRY = timedelta(minutes=5)


async def reconcile(*, wait: bool = False) -> None:
    """One round over all endpoints. Rounds never overlap: with another under way, `wait` for it or leave it at that."""
    async with _alone(wait) as alone:
        if alone:
            await _round()


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


async def _round() -> None:
    desired = [version async for version in ModelVersion.objects.filter(status__in=["READY", "LIVE"]).order_by("id")]
    deployments = {(row.endpoint, row.version_id): row async for row in Deployment.objects.select_related("version")}
    loaded = await asyncio.gather(
        *(
            _reconcile_endpoint(endpoint, desired, {v: row for (e, v), row in deployments.items() if e == endpoint})
            for endpoint in settings.TRITON_URLS
        )
    )
    everywhere = set.intersection(*loaded) if loaded else set()
    await sync_to_async(releases.promote_ready)(everywhere)
    gone = [row for (endpoint, _), row in deployments.items() if endpoint not in settings.TRITON_URLS]
    await Deployment.objects.filter(pk__in=[row.pk for row in gone]).adelete()


async def _reconcile_endpoint(
    endpoint: str, desired: Iterable[ModelVersion], known: dict[UUID, Deployment]
) -> set[UUID]:
    """Returns the versions that it has loaded at the end. A server that is down is left for the next round."""
    if not await gateway.is_server_live(endpoint):
        return set()
    slots = asyncio.Semaphore(LOADS_AT_ONCE)

    async def ensure(version: ModelVersion) -> UUID | None:
        async with slots:
            return version.pk if await _ensure_loaded(endpoint, version, known.get(version.pk)) else None

    wanted = {version.pk for version in desired}
    loaded = await asyncio.gather(*(ensure(version) for version in desired))
    for version_id, row in known.items():
        if version_id not in wanted:
            await _unload(endpoint, row.version)
            await row.adelete()
    return {version_id for version_id in loaded if version_id}


async def _ensure_loaded(endpoint: str, version: ModelVersion, row: Deployment | None) -> bool:
    if row and row.status == DeploymentStatus.READY and await gateway.is_model_ready(endpoint, version.triton_name):
        return True
    if (
        row
        and row.failures
        and timezone.now() - row.changed_at < min(timedelta(seconds=2**row.failures), LONGEST_RETRY)
    ):
        return False
    row = row or Deployment(version=version, endpoint=endpoint)
    try:
        await _load(endpoint, version)
    except (MarketplaceError, OSError, ValueError) as error:
        log.warning("%s did not load on %s: %s", version.triton_name, endpoint, error)
        row.status, row.error, row.failures = DeploymentStatus.FAILED, str(error)[:2000], min(row.failures + 1, 12)
        await row.asave()
        return False
    log.info("%s is loaded on %s", version.triton_name, endpoint)
    row.status, row.error, row.failures = DeploymentStatus.READY, "", 0
    await row.asave()
    return True


async def _models_of(version: ModelVersion) -> list[repository.TritonModel]:
    artifact = await asyncio.to_thread(store().get, version.sha256)
    signature = await signature_of(version.pk)
    return await asyncio.to_thread(
        repository.triton_models, version.triton_name, version.format, artifact, signature, load=_load_number()
    )


def _load_number() -> int:
    """Milliseconds since 1970: no two loads of a model have the same, and reconciliation.py knows old from new."""
    return time.time_ns() // 1_000_000


async def _load(endpoint: str, version: ModelVersion) -> None:
    models = await _models_of(version)
    # Unloading first mends a model whose stub died: Triton calls it ready and loading alone changes nothing.
    for model in reversed(models):
        await gateway.unload(endpoint, model.name)
    for model in models:
        await gateway.load(endpoint, model.name, model.config, model.files)


async def _unload(endpoint: str, version: ModelVersion) -> None:
    for model in reversed(await _models_of(version)):
        await gateway.unload(endpoint, model.name)
        log.info("%s is unloaded from %s", model.name, endpoint)


async def mark_broken(version_id: UUID, endpoint: str, error: str) -> None:
    """Has the next round load the version anew: a caller found it dead although Triton says it is ready."""
    changes: dict[str, Any] = {"status": DeploymentStatus.FAILED, "error": error[:2000], "changed_at": timezone.now()}
    await Deployment.objects.filter(version_id=version_id, endpoint=endpoint).aupdate(**changes)
