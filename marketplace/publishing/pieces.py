"""The pieces that an upload comes in: each is staged in the object store, and they are joined once all are there.

What has arrived counts, whatever becomes of the connection or the process that brought it. Of two who send to the same
upload one goes on and the other hears a conflict: neither waits, and no lock is held while bytes come.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import uuid_utils.compat as uuid
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.catalog.models import ModelVersion, ModelVersionStatus
from marketplace.errors import Conflict, ModelUnavailable, ValidationProblem
from marketplace.objects import store
from marketplace.objects.content import StoreOutOfReach, UnexpectedContent

from .models import Upload, UploadPiece, UploadStatus

log = logging.getLogger(__name__)

RETRY_AFTER_MS = 1000
# Each is a row and a file; whoever sends a byte at a time is told to send more.
MAX_PIECES = 10_000
ENDED = (ModelVersionStatus.REJECTED, ModelVersionStatus.RETIRED)


def begin(upload: Upload) -> UploadPiece:
    """A piece that begins where the upload ends. Its row comes before its bytes are staged: should this process die in
    between, there is something to remove them by."""
    if upload.pieces.count() >= MAX_PIECES:
        raise ValidationProblem(
            _("This upload came in %(most)d pieces, which is the most. Create another one, and send more at a time.")
            % {"most": MAX_PIECES}
        )
    return UploadPiece.objects.create(id=uuid.uuid7(), upload=upload, offset=upload.received_bytes)


def keep(upload: Upload, piece: UploadPiece, content: Path) -> Upload:
    """The upload with the bytes of the file `content`, which is taken over, behind what it had.

    Raises Conflict when somebody else has added to it, or ended it, since `upload` was read.
    """
    size = content.stat().st_size
    with reaching():
        store().stage(str(piece.pk), content)
    try:
        with transaction.atomic():
            advance(upload, to=upload.received_bytes + size)
            if not UploadPiece.objects.filter(pk=piece.pk).update(kept=True, size_bytes=size):
                raise _conflict()
    except Conflict:
        forget([piece.pk])
        raise
    return upload


def restart(upload: Upload) -> Upload:
    """What has arrived is forgotten; whoever is still sending hears a conflict."""
    with transaction.atomic():
        advance(upload, to=0)
        before = list(upload.pieces.filter(kept=True).values_list("pk", flat=True))
        UploadPiece.objects.filter(pk__in=before).update(kept=False)
    forget(before)
    return upload


def advance(upload: Upload, *, to: int) -> None:
    """`upload` has its new tip from here, not from another look at its row: by then that may be somebody else's."""
    tip, expires_at = uuid.uuid7(), timezone.now() + Upload.lifetime()
    if not _same(upload).update(received_bytes=to, tip=tip, expires_at=expires_at):
        raise _conflict()
    upload.received_bytes, upload.tip, upload.expires_at = to, tip, expires_at


def _same(upload: Upload) -> QuerySet[Upload]:
    """Its row, if nobody has added to it or ended it since."""
    return Upload.objects.filter(pk=upload.pk, status=UploadStatus.PENDING, tip=upload.tip)


def _conflict() -> Conflict:
    return Conflict(
        _("Somebody else sends to this upload, or ended it. Ask for its offset by HEAD, and go on from there.")
    )


def complete(upload: Upload) -> Upload:
    """COMPLETE, if every byte has arrived: joined, hashed, and in the object store.

    Raises ValidationProblem when they are not those that were declared; then they are forgotten.
    """
    if upload.status != UploadStatus.PENDING or upload.received_bytes < upload.size_bytes:
        return upload
    pieces = list(upload.pieces.filter(kept=True).order_by("offset").values_list("pk", flat=True))
    try:
        with reaching():
            sha256, _size = store().join([str(key) for key in pieces], sha256=upload.declared_sha256 or None)
    except UnexpectedContent as error:
        if upload.pk in pieces:
            # They came to the store directly, where their URLs are used up.
            _same(upload).update(status=UploadStatus.EXPIRED, expires_at=timezone.now())
            forget(pieces)
        else:
            restart(upload)
        raise ValidationProblem(
            _(
                "The bytes that came have the SHA-256 %(found)s, not the declared one. They are forgotten: send the "
                "artefact again from its beginning, or create an upload with the right SHA-256."
            )
            % {"found": error.found},
            path="input.sha256",
        ) from error
    except FileNotFoundError:
        tip = upload.tip
        upload.refresh_from_db()
        if upload.status == UploadStatus.PENDING and upload.tip == tip:
            raise
        # Somebody else has completed it meanwhile, or begun it again.
        return upload
    expires_at = timezone.now() + Upload.lifetime()
    if _same(upload).update(status=UploadStatus.COMPLETE, sha256=sha256, expires_at=expires_at):
        forget(pieces)
    elif not is_needed(sha256):
        store().delete(sha256)
    upload.refresh_from_db()
    return upload


def forget(pieces: Iterable[UUID]) -> None:
    """What the store does not forget just now is left to the sweep."""
    pieces = list(pieces)
    try:
        store().unstage([str(key) for key in pieces])
    except StoreOutOfReach as error:
        log.warning("%d pieces of uploads are still staged: %s", len(pieces), error)
        return
    UploadPiece.objects.filter(pk__in=pieces).delete()


@contextmanager
def reaching() -> Iterator[None]:
    """What the caller hears when the object store cannot be reached."""
    try:
        yield
    except StoreOutOfReach as error:
        log.warning("the object store is out of reach: %s", error)
        raise ModelUnavailable(
            _("The object store cannot be reached just now. Try again shortly."), retry_after_ms=RETRY_AFTER_MS
        ) from error


def is_needed(sha256: str) -> bool:
    """Whether an upload or a version has that object."""
    versions = ModelVersion.objects.filter(Q(sha256=sha256) | Q(source_sha256=sha256)).exclude(status__in=ENDED)
    return versions.exists() or Upload.objects.kept().filter(sha256=sha256).exists()
