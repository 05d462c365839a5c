"""What publishers' figures are made of: the ledger summed by model, plan, tenant and day, counted on from where it was.

Every entry is counted once: those from the watermark until the moment before which everything that was charged can be
seen. Holds lead to them, by the index on the time at which they finished: a hold finishes when it is charged, and again
when the charge is refunded, so the entries of a time belong to holds that finished then or later.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from .models import Watermark
from .watermarks import closed_until

ADVISORY_LOCK = 0x64617973  # "days": any number that nothing else locks
JOB = "days"
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

_SUMS = """
SELECT v.model_id, h.plan_id, h.tenant_id, (e.created_at AT TIME ZONE 'UTC')::date AS day, e.currency,
       sum(CASE e.kind WHEN 'charge' THEN 1 ELSE -1 END) AS calls, sum(e.units) AS units, sum(e.amount) AS amount
  FROM metering_hold h
  JOIN metering_ledgerentry e ON e.hold_id = h.id AND e.account = 'publisher'
  JOIN catalog_modelversion v ON v.id = h.version_id
 WHERE h.finished_at >= %(after)s AND e.created_at >= %(after)s AND e.created_at < %(until)s
 GROUP BY 1, 2, 3, 4, 5
"""

_ADD = f"""
INSERT INTO subscriptions_dailyusage AS known (model_id, plan_id, tenant_id, day, currency, calls, units, amount)
{_SUMS}
ON CONFLICT (model_id, day, tenant_id, plan_id, currency) DO UPDATE
   SET calls = known.calls + excluded.calls, units = known.units + excluded.units,
       amount = known.amount + excluded.amount
"""  # noqa: S608  (a constant)

_DIFFERENCES = f"""
SELECT coalesce(s.day, d.day), m.name, t.slug, coalesce(s.calls, 0), coalesce(d.calls, 0),
       coalesce(s.units, 0), coalesce(d.units, 0), coalesce(s.amount, 0), coalesce(d.amount, 0),
       coalesce(s.currency, d.currency)
  FROM ({_SUMS}) AS s
  FULL JOIN subscriptions_dailyusage d
    ON (d.model_id, d.tenant_id, d.day, d.currency) = (s.model_id, s.tenant_id, s.day, s.currency)
   AND coalesce(d.plan_id::text, '') = coalesce(s.plan_id::text, '')
  JOIN catalog_mlmodel m ON m.id = coalesce(s.model_id, d.model_id)
  JOIN tenants_tenant t ON t.id = coalesce(s.tenant_id, d.tenant_id)
 WHERE (coalesce(s.calls, 0), coalesce(s.units, 0), coalesce(s.amount, 0))
    <> (coalesce(d.calls, 0), coalesce(d.units, 0), coalesce(d.amount, 0))
 ORDER BY 1, 2, 3 LIMIT 20
"""  # noqa: S608  (a constant)


def count() -> bool:
    """Brings the figures up to now. False when another count is under way."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s), clock_timestamp()", [ADVISORY_LOCK])
        alone, moment = cursor.fetchone()
        if not alone:
            return False
        try:
            with transaction.atomic():
                _count(cursor, moment)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    return True


def counted_until() -> datetime | None:
    return Watermark.objects.filter(job=JOB).values_list("reached", flat=True).first()


def differences() -> list[str]:
    """Where figures and ledger are not the same, as of the watermark: at most 20, and none when all is well.

    Reads the whole ledger once. Must not run within a transaction: it needs one of its own.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(_DIFFERENCES, {"after": BEGINNING, "until": counted_until() or BEGINNING})
        return [
            f"{day:%Y-%m-%d} {model} {tenant}: the ledger has {calls} calls, {units:f} units, {amount:f} {currency}; "
            f"the figures {counted} calls, {counted_units:f} units, {counted_amount:f} {currency}"
            for day, model, tenant, calls, counted, units, counted_units, amount, counted_amount, currency in cursor
        ]


def _count(cursor: Any, moment: datetime) -> None:
    until = closed_until(cursor, moment)
    watermark = Watermark.objects.filter(job=JOB).first() or Watermark(job=JOB, since=BEGINNING, reached=BEGINNING)
    if until <= watermark.reached:
        return
    if watermark.reached > BEGINNING:
        # The planner expects much of a table that has grown since it was analysed to be new, and would read all of it.
        cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(_ADD, {"after": watermark.reached, "until": until})
    watermark.reached = until
    watermark.save()
