"""What the worker does for metering."""

import logging

from celery import shared_task
from django.db import connection

from . import ledger
from .pace import Pace

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x6C656467  # "ledg": any number that nothing else locks
pace = Pace()


@shared_task  # type: ignore[untyped-decorator]
def check_ledger() -> None:
    """Says at ERROR what is wrong with the ledger, and nothing when it is exact.

    Leaves it at that while another check is under way: those of a very long ledger must not take every worker.
    """
    if pace.rests:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return
        try:
            with pace.run():
                report = ledger.check()
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    if not report.exact:
        log.error("%s", report)
        for violation in report.violations:
            log.error("%s", violation)


# Behind the end of a period by more than an admission takes: a call that began before it still reads these contracts.
_MOVE = """
UPDATE subscriptions_modelsubscription s SET plan_id = due.terms
  FROM (SELECT c.id, c.plan_id, metering_terms(c.plan_id, period.period_start) AS terms
          FROM subscriptions_plan p
          JOIN subscriptions_modelsubscription c ON c.plan_id = p.id AND c.status <> 'CANCELLED'
         CROSS JOIN LATERAL metering_period(c.created_at, clock_timestamp() - interval '1 minute') AS period
         WHERE p.successor_from <= period.period_start) AS due
 WHERE s.id = due.id AND s.plan_id = due.plan_id
"""


@shared_task  # type: ignore[untyped-decorator]
def move_contracts() -> int:
    """Notes of contracts whose plan has changed for their period what admission goes by anyway. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE)
        moved: int = cursor.rowcount
    return moved
