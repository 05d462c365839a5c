"""What the worker does for metering."""

import logging

from celery import shared_task

from . import ledger

log = logging.getLogger(__name__)


@shared_task  # type: ignore[untyped-decorator]
def check_ledger() -> None:
    """Says at ERROR what is wrong with the ledger, and nothing when it is exact."""
    report = ledger.check()
    if not report.exact:
        log.error("%s", report)
        for violation in report.violations:
            log.error("%s", violation)
