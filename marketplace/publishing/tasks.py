"""What the worker does for publishing."""

from contextlib import suppress

from celery import shared_task

from marketplace.errors import ValidationProblem

from . import expiry, pieces
from .models import Upload


@shared_task  # type: ignore[untyped-decorator]
def sweep_uploads() -> None:
    expiry.sweep()


@shared_task  # type: ignore[untyped-decorator]
def complete_upload(upload_id: str) -> None:
    """Hashes what came to the object store directly."""
    with suppress(ValidationProblem):
        pieces.complete(Upload.objects.get(pk=upload_id))
