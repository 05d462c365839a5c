"""Uploads: artefacts on their way into the object store, in as many pieces as it takes."""

from datetime import timedelta

import uuid_utils.compat as uuid
from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.tenants.models import Tenant


class UploadStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    COMPLETE = "COMPLETE", _("Complete")
    USED = "USED", _("Used")
    EXPIRED = "EXPIRED", _("Expired")


class UploadQuerySet(models.QuerySet["Upload"]):
    def visible_to(self, principal: Principal) -> "UploadQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()

    def kept(self) -> "UploadQuerySet":
        """Those whose bytes are in the object store, as their tenant's."""
        return self.filter(status__in=[UploadStatus.COMPLETE, UploadStatus.USED])


class Upload(models.Model):
    """PENDING while bytes arrive, COMPLETE once they are whole and hashed, USED by one version of its tenant's.

    `tip` changes with every piece that is added: of two who add to the same, the second finds another one.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="uploads")
    status = models.CharField(_("status"), max_length=8, choices=UploadStatus.choices, default=UploadStatus.PENDING)
    size_bytes = models.BigIntegerField(_("size in bytes"))
    received_bytes = models.BigIntegerField(_("received bytes"), default=0)
    tip = models.UUIDField(default=uuid.uuid7, editable=False)
    # With a store that takes parts directly: its id for those of this upload, whose piece has the upload's own id.
    parts_id = models.TextField(blank=True, editable=False)
    # What its bytes were said to have, and what they have.
    declared_sha256 = models.CharField(_("declared SHA-256"), max_length=64, blank=True)
    sha256 = models.CharField(_("SHA-256"), max_length=64, blank=True)
    version = models.OneToOneField(ModelVersion, on_delete=models.SET_NULL, null=True, related_name="upload")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # When what has arrived is forgotten; put off for as long as a version needs it.
    expires_at = models.DateTimeField(_("expires"))

    objects = UploadQuerySet.as_manager()

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        constraints = [
            models.CheckConstraint(
                condition=Q(received_bytes__gte=0, received_bytes__lte=F("size_bytes")),
                name="an_upload_receives_at_most_its_size",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "status"], name="upload_by_tenant"),
            models.Index(fields=["expires_at"], condition=~Q(status="EXPIRED"), name="upload_by_expiry"),
            models.Index(fields=["sha256"], name="upload_by_sha256"),
            # What a tenant keeps is summed before each upload, each artefact once: out of this index alone.
            models.Index(
                fields=["tenant", "sha256"],
                include=["size_bytes"],
                condition=Q(status__in=("COMPLETE", "USED")),
                name="upload_kept_by_tenant",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def url(self) -> str:
        """Where its bytes are sent to."""
        return f"{settings.PUBLIC_URL}/uploads/{self.pk}"

    @staticmethod
    def lifetime() -> timedelta:
        return timedelta(hours=settings.UPLOAD_EXPIRES_HOURS)


class UploadPiece(models.Model):
    """Bytes that are staged in the object store under its id; not `kept`, they may be there, and count for nothing."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="pieces")
    offset = models.BigIntegerField()
    size_bytes = models.BigIntegerField(default=0)
    kept = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("piece of an upload")
        verbose_name_plural = _("pieces of uploads")

    def __str__(self) -> str:
        return str(self.pk)
