"""Our calls against Triton's own statistics, version by version: what it delivered is charged, or somebody hears of it.

Holds do not say which endpoint answered, so a version's are compared with the sum over all endpoints. Each comparison
reads Triton first and the holds after it. A call that Triton had counted by then is settled, released or still open by
now; one that was settled before Triton was asked has been counted. So, of one version,

    settled  <=  Triton's count + what it lost  <=  settled + released + open

and the drift is how far Triton's count lies outside. Released calls leave room because nobody knows of them whether
Triton finished them (a caller who left, a deadline, a crash of ours) or never saw them. So do the calls that shadows.py
makes of a version, which are no holds, and are written down before they are made. Of a model that streams a call may be
two at Triton, the second of them to stop the first (generation.py): there is twice the room.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from marketplace.catalog.models import ModelVersion
from marketplace.errors import MarketplaceError
from marketplace.metering.models import HoldState

from . import gateway
from .deployment.names import version_of
from .models import Deployment, ShadowComparison, TritonCounter, UsageReconciliation, Watermark
from .watermarks import closed_until

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x75736167  # "usag": any number that nothing else locks
JOB = "usage"

# What has finished since the last time, and what is open: unfinished, or finished after the last moment to be counted.
# A refund finishes a hold a second time: its charge may have been counted before.
_HOLDS = """
SELECT version_id, coalesce(finished_at < %(until)s, false) AS closed, state, released_because,
       (state = 'released' AND (
           SELECT e.created_at >= %(since)s AND e.created_at < %(after)s FROM metering_ledgerentry e
            WHERE e.hold_id = h.id AND e.kind = 'charge' AND e.account = 'consumer')) IS TRUE AS refunded,
       count(*)
  FROM metering_hold h WHERE finished_at >= %(after)s OR finished_at IS NULL GROUP BY 1, 2, 3, 4, 5
"""

Load = tuple[str, int]  # endpoint, Triton's number of the version
Answers = Mapping[str, list[gateway.Statistics] | None]


@dataclass(slots=True)
class _Holds:
    """Of one version: what has finished since the last time, and what is open."""

    settled: int = 0
    released: dict[str, int] = field(default_factory=dict)
    open: int = 0


def reconcile() -> bool:
    """Compares every version once, in a constant number of queries. False when another comparison is under way."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s), clock_timestamp()", [ADVISORY_LOCK])
        alone, moment = cursor.fetchone()
        if not alone:
            return False
        try:
            answers = asyncio.run(_ask(settings.TRITON_URLS))
            with transaction.atomic():
                drifts = _compare(cursor, moment, answers)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    _log(drifts)
    return True


async def _ask(endpoints: Iterable[str]) -> Answers:
    """None for an endpoint that does not answer."""

    async def ask(endpoint: str) -> tuple[str, list[gateway.Statistics] | None]:
        try:
            return endpoint, await gateway.statistics(endpoint)
        except MarketplaceError as error:
            log.warning("%s does not say what it has counted: %s", endpoint, error)
            return endpoint, None

    try:
        return dict(await asyncio.gather(*(ask(endpoint) for endpoint in endpoints)))
    finally:
        await gateway.close()


def _compare(cursor: Any, moment: datetime, answers: Answers) -> dict[UUID, int]:
    """Brings the records up to `moment`, after which `answers` were asked for. The drifts that are to be logged."""
    until = closed_until(cursor, moment)
    watermark = Watermark.objects.filter(job=JOB).first() or Watermark(job=JOB, since=until, reached=until)
    after, until = watermark.reached, max(until, watermark.reached)
    holds = _count_holds(cursor, watermark.since, after, until)
    readings = _by_version(answers)
    counters: dict[UUID, dict[Load, TritonCounter]] = defaultdict(dict)
    for counter in TritonCounter.objects.all():
        counters[counter.usage_id][counter.endpoint, counter.load] = counter
    away = {endpoint for endpoint, statistics in answers.items() if statistics is None}
    # What runs where nobody answers is counted on, and judged once the counters there are in sight again.
    unread = {usage for usage, known in counters.items() if any(endpoint in away for endpoint, _load in known)}
    unread |= set(Deployment.objects.filter(endpoint__in=away).values_list("version_id", flat=True))

    shadowed = dict(
        ShadowComparison.objects.values_list("shadow").annotate(asked=Sum("asked")).values_list("shadow", "asked")
    )
    decoupled = set(ModelVersion.objects.filter(decoupled=True).values_list("pk", flat=True))
    rows = UsageReconciliation.objects.in_bulk()
    changed: list[UsageReconciliation] = []
    read: list[TritonCounter] = []
    ended: list[TritonCounter] = []
    drifts: dict[UUID, int] = {}
    for version_id in {*rows, *holds, *readings}:
        row = rows.get(version_id) or UsageReconciliation(version_id=version_id, since=after)
        before = _values(row)
        finished = holds.get(version_id, _Holds())
        _add(row, finished)
        row.shadowed = shadowed.get(version_id, 0)
        known = {load: each for load, each in counters[version_id].items() if each.endpoint not in away}
        loads = _read(row, known, readings.get(version_id, {}), finished, watermark.since)
        read += loads.read
        ended += loads.ended
        if version_id not in unread:
            drift = _judge(row, until, requests_per_call=2 if version_id in decoupled else 1)
            if drift != row.reported:
                drifts[version_id] = row.reported = drift
            row.doubtful = 0
        if loads.anew:
            row.doubtful += row.in_flight
        if row._state.adding or _values(row) != before:
            changed.append(row)

    UsageReconciliation.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["version"], update_fields=_fields(UsageReconciliation)
    )
    UsageReconciliation.objects.exclude(pk__in=unread).update(checked_at=until)
    TritonCounter.objects.filter(pk__in=[counter.pk for counter in ended]).delete()
    TritonCounter.objects.bulk_create(
        read,
        update_conflicts=True,
        unique_fields=["usage", "endpoint", "load"],
        update_fields=["succeeded", "cached", "failed", "last_call_at", "settled"],
    )
    watermark.reached = until
    watermark.save()
    return drifts


def _count_holds(cursor: Any, since: datetime, after: datetime, until: datetime) -> dict[UUID, _Holds]:
    found: dict[UUID, _Holds] = defaultdict(_Holds)
    # The planner expects much of a table that has grown since it was analysed to be new, and would read all of it.
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(_HOLDS, {"since": since, "after": after, "until": until})
    for version_id, closed, state, reason, refunded, number in cursor.fetchall():
        holds = found[version_id]
        if not closed:
            holds.open += number
        elif state == HoldState.SETTLED:
            holds.settled += number
        else:
            holds.released[reason] = holds.released.get(reason, 0) + number
            holds.settled -= number if refunded else 0
    return found


def _by_version(answers: Answers) -> dict[UUID, dict[Load, gateway.Statistics]]:
    given = [
        (found, endpoint, each)
        for endpoint, statistics in answers.items()
        for each in statistics or ()
        # The steps of ensembles count their parts of the same calls.
        if (found := version_of(each.model))
    ]
    versions = ModelVersion.objects.filter(model_id__in={model for (model, _number), _endpoint, _each in given})
    ids = {(str(model), number): pk for pk, model, number in versions.values_list("pk", "model_id", "number")}
    readings: dict[UUID, dict[Load, gateway.Statistics]] = defaultdict(dict)
    for version, endpoint, each in given:
        if version in ids:
            readings[ids[version]][endpoint, each.version] = each
    return readings


def _add(row: UsageReconciliation, finished: _Holds) -> None:
    row.settled += finished.settled
    row.released = {
        reason: row.released.get(reason, 0) + finished.released.get(reason, 0)
        for reason in {**row.released, **finished.released}
    }
    row.in_flight = finished.open


@dataclass(slots=True)
class _Loads:
    """Of one version: counters that have moved, counters that are no more, and whether any of them began or ended."""

    read: list[TritonCounter] = field(default_factory=list)
    ended: list[TritonCounter] = field(default_factory=list)
    anew: bool = False


def _read(
    row: UsageReconciliation,
    known: Mapping[Load, TritonCounter],
    readings: Mapping[Load, gateway.Statistics],
    finished: _Holds,
    since: datetime,
) -> _Loads:
    """Adds to the row what Triton has counted since the last time."""
    loads = _Loads()
    for (endpoint, load), now in readings.items():
        last = known.get((endpoint, load))
        counts = (now.succeeded, now.cached, now.failed)
        if last is not None and now.succeeded >= last.succeeded:
            counted = (last.succeeded, last.cached, last.failed)
        else:
            loads.anew = True
            # What was loaded before our own counting began has counted calls that we did not.
            counted = counts if last is None and load < since.timestamp() * 1000 else (0, 0, 0)
            row.doubtful = max(row.doubtful, row.settled - last.settled if last else finished.settled)
        row.delivered += counts[0] - counted[0]
        row.cached += counts[1] - counted[1]
        row.failed += counts[2] - counted[2]
        if last is None or (last.succeeded, last.cached, last.failed, last.settled) != (*counts, row.settled):
            loads.read.append(
                TritonCounter(
                    usage_id=row.pk,
                    endpoint=endpoint,
                    load=load,
                    succeeded=now.succeeded,
                    cached=now.cached,
                    failed=now.failed,
                    last_call_at=datetime.fromtimestamp(now.last_call / 1000, UTC) if now.last_call else None,
                    settled=row.settled,
                )
            )
    for key, last in known.items():
        if key not in readings:
            loads.anew = True
            loads.ended.append(last)
            row.doubtful = max(row.doubtful, row.settled - last.settled)
    return loads


def _judge(row: UsageReconciliation, now: datetime, *, requests_per_call: int) -> int:
    """Sets the drift. Returns as much of it as the last comparison had found too: what lasts is worth an error."""
    before = row.drift
    least, most = row.settled, (row.settled + row.undelivered + row.in_flight) * requests_per_call + row.shadowed

    def drift() -> int:
        counted = row.delivered + row.uncounted
        return max(counted - most, 0) or min(counted - least, 0)

    if drift() < before:
        # A counter that ended took calls with it: as many as make it what it was, of those that it may have counted.
        missing = before + (most if before > 0 else least) - row.delivered - row.uncounted
        row.uncounted += min(missing, row.doubtful)
    row.drift = drift()
    row.drift_since = (row.drift_since or now) if row.drift else None
    return min(before, row.drift, key=abs) if before * row.drift > 0 else 0


def _fields(model: type[UsageReconciliation]) -> list[str]:
    return [each.name for each in model._meta.concrete_fields if not each.primary_key]


def _values(row: UsageReconciliation) -> list[Any]:
    return [getattr(row, name) for name in _fields(UsageReconciliation)]


def _log(drifts: Mapping[UUID, int]) -> None:
    """Once per change."""
    versions = ModelVersion.objects.select_related("model__publisher").in_bulk(list(drifts))
    for version_id, drift in drifts.items():
        name = f"{versions[version_id].model.ref} v{versions[version_id].number}"
        if drift > 0:
            log.error("%s: Triton delivered calls that are none of ours: %d", name, drift)
        elif drift < 0:
            log.error("%s: we settled calls that Triton never delivered: %d", name, -drift)
        else:
            log.info("%s: what Triton delivered and what we settled agree again", name)
