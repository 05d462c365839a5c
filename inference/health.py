"""Is it alive, and can it serve? For load balancers, Kubernetes probes and `make run`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import redis.asyncio as redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from . import gateway
from .models import Heartbeat

PATIENCE_SECONDS = 3.0
HEARTBEAT_AGE = timedelta(seconds=15)


@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers at all."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    """200 when every part that serving needs is there, else 503; the body names each part and whether it is."""
    parts: dict[str, Callable[[], Awaitable[bool]]] = {
        "database": sync_to_async(_database),
        "migrations": sync_to_async(_migrations),
        "worker": sync_to_async(_worker),
        "valkey": _valkey,
        "triton": _triton,
    }
    answers = await asyncio.gather(*(_in_time(check) for check in parts.values()))
    checks = dict(zip(parts, answers, strict=True))
    missing = [part for part, present in checks.items() if not present]
    return JsonResponse(
        {"status": "unavailable" if missing else "ok", "missing": missing, "checks": checks},
        status=503 if missing else 200,
    )


async def _in_time(check: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await asyncio.wait_for(check(), PATIENCE_SECONDS)
    except (TimeoutError, OSError, DatabaseError, redis.RedisError):
        return False


def _database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


_migrated = False


def _migrations() -> bool:
    """Migrations are never taken back under a running server: once they are all there, they stay."""
    global _migrated  # noqa: PLW0603  (one fact about the whole process)
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _migrated


def _worker() -> bool:
    return Heartbeat.objects.filter(service="worker", seen_at__gt=timezone.now() - HEARTBEAT_AGE).exists()


async def _valkey() -> bool:
    client: redis.Redis = redis.from_url(settings.VALKEY_URL, socket_connect_timeout=2, socket_timeout=2)
    async with client:
        return bool(await client.ping())


async def _triton() -> bool:
    return any(await asyncio.gather(*(gateway.is_server_live(address) for address in settings.TRITON_URLS)))
