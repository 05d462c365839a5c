"""Bytes that go to the object store without passing through us, where it has URLs for that: in parts."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.errors import Conflict, ValidationProblem
from marketplace.objects import direct_store
from marketplace.objects.content import StoreOutOfReach

from . import pieces
from .models import Upload, UploadPiece, UploadStatus
from .ownership import own_upload
from .worker import tell_hasher

PART_BYTES = 64 * 1024 * 1024
MAX_PARTS = 1000
URL_SECONDS = 6 * 3600
MAX_ETAG_CHARACTERS = 128


class Part(NamedTuple):
    """`number` counts from 1; `url` takes one PUT of exactly these bytes."""

    number: int
    offset: int
    size_bytes: int
    url: str


def begin(upload: Upload) -> None:
    """A new upload may come directly as well, if the store takes it so."""
    direct = direct_store()
    if direct is None:
        return
    with pieces.reaching():
        upload.parts_id = direct.begin_parts(str(upload.pk))
    upload.save(update_fields=["parts_id"])
    UploadPiece.objects.create(pk=upload.pk, upload=upload, offset=0)


def parts_of(upload: Upload) -> list[Part]:
    """Empty where its bytes pass through us, or have come."""
    direct = direct_store()
    if direct is None or not upload.parts_id or upload.status != UploadStatus.PENDING or upload.received_bytes:
        return []
    parts = []
    for number, (offset, size) in enumerate(_extents(upload.size_bytes), start=1):
        url = direct.part_url(str(upload.pk), upload.parts_id, number=number, size_bytes=size, seconds=URL_SECONDS)
        parts.append(Part(number, offset, size, url))
    return parts


def _extents(size_bytes: int) -> list[tuple[int, int]]:
    each = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
    return [(offset, min(each, size_bytes - offset)) for offset in range(0, size_bytes, each)]


def finish(principal: Principal, *, upload_id: UUID, etags: Sequence[str]) -> Upload:
    """Every part has come, and each was answered with its ETag. The worker hashes them: then it is COMPLETE."""
    upload = own_upload(principal, upload_id)
    direct = direct_store()
    if direct is None or not upload.parts_id:
        raise ValidationProblem(_("This upload has no parts: send its bytes to its url."), path="input.upload")
    if upload.status != UploadStatus.PENDING or upload.received_bytes:
        raise Conflict(_("The bytes of this upload have come already, or it has ended."), path="input.upload")
    expected = len(_extents(upload.size_bytes))
    if len(etags) != expected or any(not 0 < len(etag) <= MAX_ETAG_CHARACTERS for etag in etags):
        raise ValidationProblem(
            _("Send the ETags of all %(count)d parts, in their order.") % {"count": expected}, path="input.etags"
        )
    try:
        with pieces.reaching():
            size = direct.finish_parts(str(upload.pk), upload.parts_id, etags)
    except (ValueError, FileNotFoundError) as error:
        raise ValidationProblem(
            _("The object store does not have these parts. Put those that are missing, and send the ETags it answers."),
            path="input.etags",
        ) from error
    if size != upload.size_bytes:
        raise ValidationProblem(
            _("The parts have %(came)d bytes in all, where %(expected)d belong. Create another upload.")
            % {"came": size, "expected": upload.size_bytes},
            path="input.etags",
        )
    with transaction.atomic():
        pieces.advance(upload, to=size)
        UploadPiece.objects.filter(pk=upload.pk).update(kept=True, size_bytes=size)
        tell_hasher(upload.pk)
    return upload


def has_come(upload: Upload) -> bool:
    """Whether its bytes came directly: then it is the worker who reads them."""
    return bool(upload.parts_id) and UploadPiece.objects.filter(pk=upload.pk, kept=True).exists()


def abort(upload: Upload) -> None:
    """Parts that came, and are not needed, go. What the store does not forget just now is left to the sweep."""
    direct = direct_store()
    if direct is not None and upload.parts_id:
        with suppress(StoreOutOfReach):
            direct.abort_parts(str(upload.pk), upload.parts_id)
