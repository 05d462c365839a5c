"""Uploads: begun within their tenant's limits, and used once, by one version."""

import re
import tempfile
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import Max, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.errors import Conflict, ModelUnavailable, PayloadTooLarge, ValidationProblem
from marketplace.objects import store
from marketplace.tenants.models import Tenant

from . import direct, pieces, versions
from .models import Upload, UploadStatus
from .ownership import own_upload, require_publisher


def create(principal: Principal, *, size_bytes: int, sha256: str | None = None) -> Upload:
    """Room for an artefact of that size. COMPLETE at once when this tenant has uploaded the same bytes before.

    Nobody gets what another tenant has uploaded by knowing its hash.
    """
    upload = _create(principal, size_bytes, sha256, path="input.sizeBytes")
    if upload.status == UploadStatus.PENDING:
        try:
            direct.begin(upload)
        except ModelUnavailable:
            upload.delete()
            raise
    return upload


@transaction.atomic
def _create(principal: Principal, size_bytes: int, sha256: str | None, *, path: str) -> Upload:
    """`path` names what has the size."""
    require_publisher(principal)
    if size_bytes < 1:
        raise ValidationProblem(_("The artefact is empty."), path=path)
    if size_bytes > settings.MAX_ARTIFACT_BYTES:
        raise PayloadTooLarge(
            _(
                "An artefact has at most %(most)d bytes here, and this one has %(size)d. Make it smaller, or ask the "
                "operator to raise MAX_ARTIFACT_BYTES."
            )
            % {"most": settings.MAX_ARTIFACT_BYTES, "size": size_bytes},
            path=path,
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
        _check_room(tenant, size_bytes, path)
    upload.save(force_insert=True)
    return upload


def _has_uploaded(tenant: Tenant, sha256: str, size_bytes: int) -> bool:
    """The lock keeps what is found from being swept until the new upload holds on to it as well."""
    before = tenant.uploads.kept().filter(sha256=sha256, size_bytes=size_bytes).select_for_update().first()
    with pieces.reaching():
        return before is not None and store().exists(sha256)


def _check_room(tenant: Tenant, size_bytes: int, path: str) -> None:
    pending = tenant.uploads.filter(status=UploadStatus.PENDING)
    if pending.count() >= settings.MAX_OPEN_UPLOADS:
        raise ValidationProblem(
            _("Your tenant has %(most)d uploads open, which is the most. Finish one, or send DELETE to its url.")
            % {"most": settings.MAX_OPEN_UPLOADS},
            path="input",
        )
    coming = pending.aggregate(size=Sum("size_bytes"))["size"] or 0
    each = tenant.uploads.kept().values("sha256").annotate(size=Max("size_bytes"))
    # What the checks made of an upload is kept beside it.
    converted = ModelVersion.objects.filter(model__publisher=tenant).exclude(source_sha256="")
    made = converted.exclude(status__in=pieces.ENDED).values("sha256").annotate(size=Max("size_bytes"))
    kept = coming + sum(rows.aggregate(all=Sum("size"))["all"] or 0 for rows in (each, made))
    if kept + size_bytes > settings.MAX_TENANT_ARTIFACT_BYTES:
        raise ValidationProblem(
            _(
                "Your tenant keeps %(kept)d bytes of artefacts, and may keep %(most)d: this one has %(size)d. Retire "
                "versions that nobody needs, delete uploads, or ask the operator to raise MAX_TENANT_ARTIFACT_BYTES."
            )
            % {"kept": kept, "most": settings.MAX_TENANT_ARTIFACT_BYTES, "size": size_bytes},
            path=path,
        )


def cancel(principal: Principal, *, upload_id: UUID) -> None:
    """Its bytes are forgotten. Raises Conflict once a version uses them."""
    with transaction.atomic():
        upload = own_upload(principal, upload_id, lock=True)
        if upload.status == UploadStatus.USED:
            raise Conflict(_("A version uses this upload."))
        upload.status, upload.expires_at = UploadStatus.EXPIRED, timezone.now()
        upload.save(update_fields=["status", "expires_at"])
    direct.abort(upload)
    pieces.forget(upload.pieces.values_list("pk", flat=True))


def submit(principal: Principal, *, upload_id: UUID, model_ref: str, release_notes: str = "") -> ModelVersion:
    """The next version of the model, VALIDATING, of what was uploaded; the upload is USED."""
    upload = own_upload(principal, upload_id)
    if not direct.has_come(upload):
        # A process that died at the last byte may have left this to do.
        pieces.complete(upload)
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


def submit_file(
    principal: Principal,
    *,
    content: "File[bytes]",
    model_ref: str,
    release_notes: str = "",
    path: str = "input.artifact",
) -> ModelVersion:
    """As `submit`, of a file that has come already, in the field `path`."""
    upload = _create(principal, content.size or 0, None, path=path)
    try:
        settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.INCOMING_DIR, delete=False) as written:
            for part in content.chunks():
                written.write(part)
        pieces.keep(upload, pieces.begin(upload), Path(written.name))
        return submit(principal, upload_id=upload.pk, model_ref=model_ref, release_notes=release_notes)
    except BaseException:
        # Nobody else knows of it.
        cancel(principal, upload_id=upload.pk)
        raise


def _why_not(upload: Upload) -> str:
    match upload.status:
        case UploadStatus.USED:
            return _("A version has been made of this upload. Create another one: with the SHA-256 it needs no bytes.")
        case UploadStatus.EXPIRED:
            return _("This upload has expired. Create another one, and send its bytes.")
    if upload.received_bytes == upload.size_bytes:
        return _("The bytes are all there and are being hashed. Ask for the upload's status until it is COMPLETE.")
    return _("%(received)d of %(size)d bytes have arrived. Send the others to the upload's url first.") % {
        "received": upload.received_bytes,
        "size": upload.size_bytes,
    }
