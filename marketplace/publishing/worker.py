"""The worker hears of what publishers want; its tasks are rooms above, which may not be imported here."""

import logging
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def tell_reconciler() -> None:
    transaction.on_commit(lambda: _send("inference.tasks.reconcile", expires=4))


def tell_checker(version_id: UUID) -> None:
    transaction.on_commit(lambda: _send("inference.tasks.check_version", str(version_id)))


def tell_hasher(upload_id: UUID) -> None:
    transaction.on_commit(lambda: _send("marketplace.publishing.tasks.complete_upload", str(upload_id)))


def tell_converter(version_id: UUID) -> None:
    # Nobody may be there to take it.
    transaction.on_commit(lambda: _send("inference.tasks.convert_version", str(version_id), expires=30))


def _send(task: str, *arguments: str, expires: float | None = None) -> None:
    """Sooner than beat, which looks every few seconds anyway: a broker that is down fails nothing."""
    try:
        current_app.send_task(task, arguments, expires=expires, retry=False)
    except OperationalError as error:
        log.warning("%s was not told, and will see it on its next round: %s", task, error)
