"""What the worker does for metering."""

import logging

from celery import shared_task
from django.db import connection

from . import ledger

log = logging.getLogger(__name__)

ADVISORY_LOCK = 0x6C656467  # "ledg": any number that nothing else locks


@shared_task  # type: ignore[untyped-decorator]
def check_ledger() -> None:
    """Says at ERROR what is wrong with the ledger, and nothing when it is exact.

    Leaves it at that while another check is under way: those of a very long ledger must not take every worker.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            return
        try:
            report = ledger.check()
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    if not report.exact:
        log.error("%s", report)
        for violation in report.violations:
            log.error("%s", violation)
