"""What the worker does for publishing."""

from celery import shared_task

from . import expiry


@shared_task  # type: ignore[untyped-decorator]
def sweep_uploads() -> None:
    expiry.sweep()
