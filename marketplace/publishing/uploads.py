"""Uploads: begun, received piece by piece, hashed, and used once by one version.

Bytes that have arrived count whatever becomes of the connection or the process that brought them. Of two who send to
the same upload at once one goes on and the other hears a conflict; neither waits, and no lock is held while bytes come.
"""

import re
from pathlib import Path
from uuid import UUID

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import transaction
from django.db.models import Max, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.catalog.models import ModelVersion
from marketplace.errors import Conflict, PayloadTooLarge, ValidationProblem
from marketplace.objects import store
from marketplace.objects.content import UnexpectedContent
from marketplace.tenants.models import Tenant

from . import versions
from .models import Upload, UploadPiece, UploadStatus
from .ownership import require_publisher

# Each is a row and an object; whoever sends a byte at a time is told to send more.
MAX_PIECES = 10_000


@transaction.atomic
def create(principal: Principal, *, size_bytes: int, sha256: str | None = None) -> Upload:
    """Room for an artefact of that size. COMPLETE at once when this tenant has uploaded the same bytes before.

    Nobody gets what another tenant has uploaded by knowing its hash.
    """
    require_publisher(principal)
    if size_bytes < 1:
        raise ValidationProblem(_("The artefact is empty."), path="input.sizeBytes")
    if size_bytes > settings.MAX_ARTIFACT_BYTES:
        raise PayloadTooLarge(
            _(
                "An artefact has at most %(most)d bytes here, and this one has %(size)d. Make it smaller, or ask the "
                "operator to raise MAX_ARTIFACT_BYTES."
            )
            % {"most": settings.MAX_ARTIFACT_BYTES, "size": size_bytes},
            path="input.sizeBytes",
        )
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValidationProblem(_("A SHA-256 is 64 lower-case hexadecimal digits."), path="input.sha256")
    # One upload of a tenant is created at a time, so that its limits hold.
    assert principal.tenant_id is not None
    tenant = Tenant.objects.select_for_update(no_key=True).get(pk=principal.tenant_id)
    expires_at = timezone.now() + Upload.lifetime()
    upload = Upload(tenant=tenant, size_bytes=size_bytes, declared_sha256=sha256 or "", expires_at=expires_at)
    if sha256 is not None and _has_uploaded(tenant, sha256, size_bytes):
        upload.status, upload.received_bytes, upload.sha256 = UploadStatus.COMPLETE, size_bytes, sha256
    else:
        _check_room(tenant, size_bytes)
    upload.save(force_insert=True)
    return upload


def _has_uploaded(tenant: Tenant, sha256: str, size_bytes: int) -> bool:
    """The lock keeps what is found from being swept until the new upload holds on to it as well."""
    before = tenant.uploads.kept().filter(sha256=sha256, size_bytes=size_bytes).select_for_update().first()
    return before is not None and store().exists(sha256)


def _check_room(tenant: Tenant, size_bytes: int) -> None:
    pending = tenant.uploads.filter(status=UploadStatus.PENDING)
    if pending.count() >= settings.MAX_OPEN_UPLOADS:
        raise ValidationProblem(
            _("Your tenant has %(most)d uploads open, which is the most. Finish one, or send DELETE to its url.")
            % {"most": settings.MAX_OPEN_UPLOADS},
            path="input",
        )
    coming = pending.aggregate(size=Sum("size_bytes"))["size"] or 0
    each = tenant.uploads.kept().values("sha256").annotate(size=Max("size_bytes"))
    kept = coming + (each.aggregate(all=Sum("size"))["all"] or 0)
    if kept + size_bytes > settings.MAX_TENANT_ARTIFACT_BYTES:
        raise ValidationProblem(
            _(
                "Your tenant keeps %(kept)d bytes of artefacts, and may keep %(most)d: this one has %(size)d. Retire "
                "versions that nobody needs, delete uploads, or ask the operator to raise MAX_TENANT_ARTIFACT_BYTES."
            )
            % {"kept": kept, "most": settings.MAX_TENANT_ARTIFACT_BYTES, "size": size_bytes},
            path="input.sizeBytes",
        )


def own_upload(principal: Principal, upload_id: UUID, *, path: str = "input.upload", lock: bool = False) -> Upload:
    """The caller's own; anybody else's answers as missing."""
    upload: Upload = find(Upload.objects, principal, Permission.PUBLISH, path=path, pk=upload_id, lock=lock)
    require_publisher(principal)
    return upload


def restart(upload: Upload) -> Upload:
    """What has arrived is forgotten, and whoever is still sending hears a conflict."""
    return _advanced(upload, to=0)


def begin_piece(upload: Upload) -> UploadPiece:
    """A piece that begins where the upload ends. It has to be known before its bytes are staged, or nobody ever would
    remove them when this process dies in between."""
    if upload.pieces.count() >= MAX_PIECES:
        raise ValidationProblem(
            _("This upload came in %(most)d pieces, which is the most. Create another one, and send more at a time.")
            % {"most": MAX_PIECES}
        )
    return UploadPiece.objects.create(id=uuid.uuid7(), upload=upload, offset=upload.received_bytes)


def keep_piece(upload: Upload, piece: UploadPiece, content: Path) -> Upload:
    """The upload with the bytes of the file `content`, which is taken over, behind what it had.

    Raises Conflict when somebody else has added to it, or ended it, since `upload` was read.
    """
    size = content.stat().st_size
    store().stage(str(piece.pk), content)
    with transaction.atomic():
        advanced = _advanced(upload, to=upload.received_bytes + size)
        UploadPiece.objects.filter(pk=piece.pk).update(kept=True, size_bytes=size)
    return advanced


@transaction.atomic
def _advanced(upload: Upload, *, to: int) -> Upload:
    tip, expires_at = uuid.uuid7(), timezone.now() + Upload.lifetime()
    same = Upload.objects.filter(pk=upload.pk, status=UploadStatus.PENDING, tip=upload.tip)
    if not same.update(received_bytes=to, tip=tip, expires_at=expires_at):
        raise Conflict(_("Somebody else sends to this upload. Ask for its offset (HEAD), and go on from there."))
    if to == 0:
        upload.pieces.update(kept=False)
    upload.received_bytes, upload.tip, upload.expires_at = to, tip, expires_at
    return upload


def complete(upload: Upload) -> Upload:
    """COMPLETE, if every byte has arrived: joined, hashed, and in the object store.

    Raises ValidationProblem when they are not those that were declared; then they are forgotten.
    """
    if upload.status != UploadStatus.PENDING or upload.received_bytes < upload.size_bytes:
        return upload
    pieces = [str(key) for key in upload.pieces.filter(kept=True).order_by("offset").values_list("pk", flat=True)]
    try:
        sha256, _size = store().join(pieces, sha256=upload.declared_sha256 or None)
    except UnexpectedContent as error:
        restart(upload)
        _forget_pieces(upload)
        raise ValidationProblem(
            _(
                "The bytes that came have the SHA-256 %(found)s, not the declared one. They are forgotten: send the "
                "artefact again from its beginning, or create an upload with the right SHA-256."
            )
            % {"found": error.found},
            path="input.sha256",
        ) from error
    except FileNotFoundError:
        # Somebody else has completed it meanwhile.
        upload.refresh_from_db()
        if upload.status == UploadStatus.PENDING:
            raise
        return upload
    expires_at = timezone.now() + Upload.lifetime()
    same = Upload.objects.filter(pk=upload.pk, status=UploadStatus.PENDING, tip=upload.tip)
    if same.update(status=UploadStatus.COMPLETE, sha256=sha256, expires_at=expires_at):
        _forget_pieces(upload)
    upload.refresh_from_db()
    return upload


def _forget_pieces(upload: Upload) -> None:
    pieces = list(upload.pieces.values_list("pk", flat=True))
    store().unstage([str(key) for key in pieces])
    UploadPiece.objects.filter(pk__in=pieces).delete()


def cancel(principal: Principal, *, upload_id: UUID) -> None:
    """Its bytes are forgotten. Raises Conflict once a version uses them."""
    with transaction.atomic():
        upload = own_upload(principal, upload_id, lock=True)
        if upload.status == UploadStatus.USED:
            raise Conflict(_("A version uses this upload."))
        upload.status = UploadStatus.EXPIRED
        upload.save(update_fields=["status"])
    _forget_pieces(upload)


def submit(principal: Principal, *, upload_id: UUID, model_ref: str, release_notes: str = "") -> ModelVersion:
    """The next version of the model, VALIDATING, of what was uploaded; the upload is USED."""
    # A process that died at the last byte may have left this to do.
    complete(own_upload(principal, upload_id))
    return _submit(principal, upload_id, model_ref, release_notes)


@transaction.atomic
def _submit(principal: Principal, upload_id: UUID, model_ref: str, release_notes: str) -> ModelVersion:
    upload = own_upload(principal, upload_id, lock=True)
    if upload.status != UploadStatus.COMPLETE:
        raise ValidationProblem(_why_not(upload), path="input.upload")
    version = versions.submit(
        principal,
        model_ref=model_ref,
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        release_notes=release_notes,
    )
    upload.status, upload.version = UploadStatus.USED, version
    upload.save(update_fields=["status", "version"])
    return version


def _why_not(upload: Upload) -> str:
    match upload.status:
        case UploadStatus.USED:
            return _("A version has been made of this upload. Create another one: with the SHA-256 it needs no bytes.")
        case UploadStatus.EXPIRED:
            return _("This upload has expired. Create another one, and send its bytes.")
    return _("%(received)d of %(size)d bytes have arrived. Send the others to the upload's url first.") % {
        "received": upload.received_bytes,
        "size": upload.size_bytes,
    }
