"""What the database says of where versions are to run, and what a round writes there: each in one statement."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from inference.models import Deployment, DeploymentStatus
from marketplace.catalog.models import ModelVersion, triton_name

from .placement import Row, Wanted, estimate

# Who looked up where a version is loaded remembers it for a second (versions.py); and a moment, to send the call.
HINTS_LAST = timedelta(seconds=2)

_WANTED = """
SELECT v.id, v.model_id, v.number, v.instance_count, v.max_batch_size, v.response_cache, v.size_bytes,
       (v.report #>> '{facts,peak_bytes}')::numeric::bigint, v.status = 'LIVE',
       coalesce(v.id = m.releasing_version_id, false),
       -- The one live before, too: rolling back waits for nothing.
       coalesce(v.id IN (m.canary_version_id, m.shadow_version_id,
                         (SELECT live_before_id FROM catalog_modelversion WHERE id = m.live_version_id)), false)
       OR EXISTS (SELECT FROM subscriptions_modelsubscription s
                   WHERE s.pinned_version_id = v.id AND s.status = 'ACTIVE'),
       v.created_at
  FROM catalog_modelversion v JOIN catalog_mlmodel m ON m.id = v.model_id
 WHERE v.status IN ('READY', 'LIVE') AND m.taken_down_at IS NULL
"""
_ROWS = """
SELECT endpoint, id, version_id, name, status, failures, changed_at, memory_bytes, processes, used_at, wanted_at
  FROM inference_deployment
"""
# The rows of a query, each behind the mark that they have together; none of them when that is the mark that one knows.
_CHANGED = """
WITH found AS MATERIALIZED ({found}), mark AS (SELECT sum(hash_record_extended(ROW({marked}), 0)) AS now FROM found)
SELECT mark.now, found.* FROM mark LEFT JOIN found ON mark.now IS DISTINCT FROM %s::numeric
"""
_WANTED_CHANGED = _CHANGED.format(found=_WANTED, marked="found.*")
# But for the last use, which changes all the time, and which `used` keeps up with.
_ROWS_CHANGED = _CHANGED.format(
    found=_ROWS,
    marked="endpoint, id, version_id, name, status, failures, changed_at, memory_bytes, processes, wanted_at",
)
_USED = """
UPDATE inference_deployment d SET used_at = a.used_at
  FROM unnest(%s::bigint[], %s::timestamptz[]) AS a (id, used_at) WHERE d.id = a.id
"""
# Each call has a hold from its admission to its end.
_CALLS = """
SELECT version_id, min(created_at) FROM metering_hold
 WHERE state IN ('held', 'executing') AND version_id = ANY(%s) GROUP BY 1
"""
_OWNER = """
SELECT system_identifier || '-' || (SELECT oid FROM pg_database WHERE datname = current_database())
  FROM pg_control_system()
"""


class _Known:
    """What this process last read, and its marks: most rounds find nothing new among thousands of rows."""

    def __init__(self) -> None:
        self.wanted: dict[UUID, Wanted] = {}
        self.wanted_mark: Decimal | None = None
        self.rows: dict[str, list[Row]] = defaultdict(list)
        self.rows_mark: Decimal | None = None


_known = _Known()


def state() -> tuple[dict[UUID, Wanted], dict[str, list[Row]]]:
    """The versions that are to be loaded, and the deployments of each endpoint."""
    with connection.cursor() as cursor:
        mark, found = _changed(cursor, _WANTED_CHANGED, _known.wanted_mark)
        if mark != _known.wanted_mark:
            _known.wanted, _known.wanted_mark = {row[0]: _wanted(row) for row in found}, mark
        mark, found = _changed(cursor, _ROWS_CHANGED, _known.rows_mark)
        if mark != _known.rows_mark:
            rows: dict[str, list[Row]] = defaultdict(list)
            for endpoint, *columns in found:
                rows[endpoint].append(Row(*columns))
            _known.rows, _known.rows_mark = rows, mark
    return _known.wanted, _known.rows


def _changed(cursor: Any, query: str, known: Decimal | None) -> tuple[Decimal | None, list[Sequence[Any]]]:
    """The mark, which is None of no rows, and the rows if it is not the known one."""
    cursor.execute(query, [known])
    found = cursor.fetchall()
    return found[0][0], [row[1:] for row in found if row[1] is not None]


def _wanted(row: Sequence[Any]) -> Wanted:
    version_id, model_id, number, instances, batch, cache, size, peak, live, releasing, kept, created_at = row
    name = triton_name(model_id, number, instances, batch, cache)
    return Wanted(version_id, name, estimate(size, instances, peak), live, releasing, kept, created_at)


def owner() -> str:
    """Which marketplace this is: its database, among all that there are."""
    with connection.cursor() as cursor:
        cursor.execute(_OWNER)
        return str(cursor.fetchone()[0])


def without_calls(rows: Sequence[Row], wanted: Mapping[UUID, Wanted]) -> list[Row]:
    """Those of the deployments that no call is under way at, nor on its way to."""
    with connection.cursor() as cursor:
        cursor.execute(_CALLS, [[row.version_id for row in rows]])
        oldest: dict[UUID, datetime] = dict(cursor.fetchall())
    return [row for row in rows if _is_left(row, oldest.get(row.version_id), callable_=row.version_id in wanted)]


def _is_left(row: Row, oldest_call: datetime | None, *, callable_: bool) -> bool:
    if row.status not in {DeploymentStatus.READY, DeploymentStatus.DRAINING}:
        return True
    if not callable_:
        return oldest_call is None  # nobody is admitted any more
    told = row.changed_at + HINTS_LAST
    return timezone.now() >= told and (oldest_call is None or oldest_call > told)


def used(uses: Mapping[int, datetime]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_USED, [list(uses), list(uses.values())])
    for rows in _known.rows.values():
        rows[:] = [replace(row, used_at=uses[row.pk]) if row.pk in uses else row for row in rows]


def chill(ids: Iterable[int]) -> None:
    """They take no more calls; who calls their version has it loaded again."""
    rows = Deployment.objects.filter(pk__in=list(ids))
    rows.filter(status=DeploymentStatus.READY).update(
        status=DeploymentStatus.DRAINING, changed_at=timezone.now(), loaded_at=None
    )
    rows.filter(status__in=[DeploymentStatus.PENDING, DeploymentStatus.FAILED]).update(
        status=DeploymentStatus.COLD, changed_at=timezone.now()
    )


def revive(ids: Iterable[int]) -> None:
    """What was about to be unloaded takes calls again, and what had taken its place does not."""
    with transaction.atomic():
        for row in Deployment.objects.filter(pk__in=list(ids), status=DeploymentStatus.DRAINING):
            take_over(row)


def take_over(row: Deployment) -> None:
    """From now on the calls of its version on its endpoint are its own. In a transaction."""
    now = timezone.now()
    Deployment.objects.filter(version=row.version_id, endpoint=row.endpoint, status=DeploymentStatus.READY).exclude(
        pk=row.pk
    ).update(status=DeploymentStatus.DRAINING, changed_at=now, loaded_at=None)
    row.status, row.error, row.failures, row.loaded_at = DeploymentStatus.READY, "", 0, row.loaded_at or now
    row.used_at, row.wanted_at = row.wanted_at or row.used_at, None
    row.save()


def add_cold(endpoint: str, versions: Iterable[Wanted]) -> None:
    Deployment.objects.bulk_create(
        [
            Deployment(
                version_id=each.version_id,
                endpoint=endpoint,
                name=each.name,
                status=DeploymentStatus.COLD,
                memory_bytes=each.memory_bytes,
            )
            for each in versions
        ],
        ignore_conflicts=True,
    )


def refuse(endpoint: str, versions: Iterable[Wanted], budget: int) -> None:
    """Those that are larger than the whole endpoint."""
    for each in versions:
        error = _("It needs about %(needed)d MB of memory, and the server has %(budget)d MB for all models.") % {
            "needed": each.memory_bytes // 10**6,
            "budget": budget // 10**6,
        }
        Deployment.objects.update_or_create(
            endpoint=endpoint,
            name=each.name,
            defaults={"version_id": each.version_id, "status": DeploymentStatus.FAILED, "error": error},
        )


def begun(endpoint: str, version: ModelVersion, memory_bytes: int) -> Deployment:
    """Its deployment there, which is being loaded."""
    row, _created = Deployment.objects.update_or_create(
        endpoint=endpoint,
        name=version.triton_name,
        defaults={
            "version_id": version.pk,
            "status": DeploymentStatus.PENDING,
            "memory_bytes": memory_bytes,
            "loaded_at": None,
        },
    )
    return row


def unloaded(row: Row, wanted: Mapping[UUID, Wanted]) -> None:
    """Its server has given it up; one that is still wanted is loaded when somebody calls it."""
    version = wanted.get(row.version_id)
    rows = Deployment.objects.filter(pk=row.pk)
    if version is not None and version.name == row.name:
        rows.update(status=DeploymentStatus.COLD, changed_at=timezone.now(), loaded_at=None)
    else:
        rows.delete()
