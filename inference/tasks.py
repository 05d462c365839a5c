"""What the worker does: check uploads, keep Triton as desired, give back what nobody settled, say that it lives."""

import logging
from uuid import UUID

from celery import shared_task
from django.db import connection, transaction
from django.utils import timezone

from marketplace.metering.models import StoredAnswer
from marketplace.metering.pace import Pace

from . import checking, converting, reconciliation, usage
from .deployment import reconciler
from .models import Heartbeat

log = logging.getLogger(__name__)

MOST_AT_ONCE = 1000
usage_pace = Pace()


@shared_task  # type: ignore[untyped-decorator]
def reconcile() -> None:
    reconciler.run_round()


@shared_task  # type: ignore[untyped-decorator]
def check_version(version_id: str) -> None:
    checking.check_waiting(UUID(version_id))


@shared_task  # type: ignore[untyped-decorator]
def check_waiting() -> None:
    """Those that no task told of, and those whose worker died."""
    checking.check_waiting()
    converting.remind()


@shared_task  # type: ignore[untyped-decorator]
def convert_version(version_id: str) -> None:
    """On a queue of its own: it may take minutes, and has an environment that other workers need not have."""
    converting.convert_waiting(UUID(version_id))


@shared_task  # type: ignore[untyped-decorator]
def reconcile_usage() -> None:
    reconciliation.reconcile()


@shared_task  # type: ignore[untyped-decorator]
def count_usage() -> None:
    usage.count()


@shared_task  # type: ignore[untyped-decorator]
def check_usage() -> None:
    """Says at ERROR where publishers' figures and the ledger are not the same."""
    if usage_pace.rests:
        return
    with usage_pace.run():
        differences = usage.differences()
    for difference in differences:
        log.error("%s", difference)


@shared_task  # type: ignore[untyped-decorator]
def release_expired_holds() -> int:
    """Gives back the units of calls whose process died. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_release_expired(%s)", [MOST_AT_ONCE])
        released: int = cursor.fetchone()[0]
    return released


@shared_task  # type: ignore[untyped-decorator]
def forget_expired_answers() -> None:
    oldest = StoredAnswer.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at")
    with transaction.atomic():
        StoredAnswer.objects.filter(pk__in=oldest.values("pk")[:MOST_AT_ONCE]).delete()


@shared_task  # type: ignore[untyped-decorator]
def heartbeat() -> None:
    Heartbeat.objects.update_or_create(service="worker", defaults={"seen_at": timezone.now()})
