"""What nobody needs any more: uploads that were given up, and the artefacts of versions that ended.

An upload EXPIRES some time after its last byte came, or after its version was rejected or retired; then it no longer
counts against its tenant's limit. As much later it is forgotten, and its object too unless that is needed elsewhere.
"""

import time
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from marketplace.errors import ValidationProblem
from marketplace.objects import store

from . import direct
from .models import Upload, UploadPiece, UploadStatus
from .pieces import ENDED, complete, forget, is_needed

MOST_AT_ONCE = 200
# Whoever brought the last byte has that long to hash and keep it all.
SETTLING = timedelta(minutes=10)
# An object that was put just now may be about to be named by a row.
UNUSED_FOR = timedelta(hours=1)

_NEEDED = Q(status=UploadStatus.USED, version__isnull=False) & ~Q(version__status__in=ENDED)


def sweep() -> None:
    """One round, of at most MOST_AT_ONCE of each kind."""
    _put_off()
    _complete()
    _expire()
    _forget_pieces()
    _forget_uploads()
    _forget_incoming()


def _put_off() -> None:
    due = Upload.objects.filter(_NEEDED, expires_at__lt=timezone.now() + Upload.lifetime() / 2)
    Upload.objects.filter(pk__in=list(due.values_list("pk", flat=True)[:MOST_AT_ONCE])).update(
        expires_at=timezone.now() + Upload.lifetime()
    )


def _complete() -> None:
    """What is whole, but whose process died before it said so."""
    settled = timezone.now() + Upload.lifetime() - SETTLING
    whole = Upload.objects.filter(
        status=UploadStatus.PENDING, received_bytes=F("size_bytes"), expires_at__lt=settled
    ).exclude(expires_at__lt=timezone.now())
    for upload in whole[:MOST_AT_ONCE]:
        try:
            complete(upload)
        except ValidationProblem:
            continue


def _expire() -> None:
    now = timezone.now()
    with transaction.atomic():
        due = (
            Upload.objects.filter(expires_at__lt=now)
            .exclude(status=UploadStatus.EXPIRED)
            .exclude(_NEEDED)
            .select_for_update(skip_locked=True, of=("self",))
        )
        keys = list(due.values_list("pk", flat=True)[:MOST_AT_ONCE])
        Upload.objects.filter(pk__in=keys).update(status=UploadStatus.EXPIRED, expires_at=now)


def _forget_pieces() -> None:
    over = UploadPiece.objects.exclude(upload__status=UploadStatus.PENDING)
    keys = list(over.values_list("pk", flat=True)[:MOST_AT_ONCE])
    for upload in Upload.objects.filter(pk__in=keys):
        direct.abort(upload)
    forget(keys)


def _forget_uploads() -> None:
    over = Upload.objects.filter(status=UploadStatus.EXPIRED, expires_at__lt=timezone.now() - Upload.lifetime())
    for upload in over.filter(pieces=None).select_related("version")[:MOST_AT_ONCE]:
        # What was checked may be another object than what was uploaded.
        for sha256 in {upload.sha256, upload.version.sha256 if upload.version else ""} - {""}:
            if not is_needed(sha256):
                store().delete(sha256, unused_for=UNUSED_FOR)
        upload.delete()


def _forget_incoming() -> None:
    """Files that a killed process left here."""
    oldest = time.time() - Upload.lifetime().total_seconds()
    for path in settings.INCOMING_DIR.glob("*"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
