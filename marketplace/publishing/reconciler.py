"""The reconciler hears of what publishers want; marketplace.publishing may not import it."""

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def tell_reconciler() -> None:
    """Once what was written here is there for it to see."""
    transaction.on_commit(_send_reconcile)


def _send_reconcile() -> None:
    """Sooner than beat, which asks every other second anyway: a broker that is down fails nothing."""
    try:
        current_app.send_task("inference.tasks.reconcile", expires=4, retry=False)
    except OperationalError as error:
        log.warning("The reconciler was not told, and will see it on its next round: %s", error)
