"""Who is here: organisations, the people in them, and the keys that act for them."""

from typing import ClassVar

import uuid_utils.compat as uuid
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import Group, PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from marketplace.access import Principal, TenantRole
from marketplace.texts import MAX_TEXT

slug_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
    _("Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit."),
)


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    email = models.EmailField(_("email address"), unique=True)
    display_name = models.CharField(_("name"), max_length=120, blank=True)
    is_staff = models.BooleanField(_("operator"), default=False)
    is_active = models.BooleanField(_("active"), default=True)
    date_joined = models.DateTimeField(_("joined"), default=timezone.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_is_unique_in_any_case")]

    def __str__(self) -> str:
        return self.display_name or self.email


class TenantQuerySet(models.QuerySet["Tenant"]):
    def visible_to(self, principal: Principal) -> "TenantQuerySet":
        """The tenant that the principal acts for; nobody sees another one from within."""
        return self.filter(pk=principal.tenant_id) if principal.tenant_id else self.none()

    def publishers(self) -> "TenantQuerySet":
        return self.filter(is_publisher=True)


class Tenant(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    slug = models.CharField(_("address"), max_length=63, unique=True, validators=[slug_validator])
    name = models.CharField(_("name"), max_length=120)
    is_publisher = models.BooleanField(_("publishes models"), default=False)
    # What other tenants grant to this one hangs on its group (django-guardian).
    group = models.OneToOneField(Group, on_delete=models.PROTECT, related_name="tenant", editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = TenantQuerySet.as_manager()

    class Meta:
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")

    def __str__(self) -> str:
        return self.name


class PublisherApplicationQuerySet(models.QuerySet["PublisherApplication"]):
    def visible_to(self, principal: Principal) -> "PublisherApplicationQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class ApplicationStatus(models.TextChoices):
    PENDING = "PENDING", _("Waiting")
    APPROVED = "APPROVED", _("Approved")
    DECLINED = "DECLINED", _("Declined")


class PublisherApplication(models.Model):
    """A tenant's wish to publish models, which the operator reviews. At most one of a tenant waits."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="publisher_applications")
    status = models.CharField(
        _("status"), max_length=8, choices=ApplicationStatus.choices, default=ApplicationStatus.PENDING, editable=False
    )
    about = models.TextField(_("about"), max_length=MAX_TEXT)
    website = models.URLField(_("website"), blank=True)
    # The operator's, for the tenant to read.
    reason = models.TextField(_("reason"), blank=True, max_length=MAX_TEXT, editable=False)
    applied_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    decided_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(_("asked"), default=timezone.now, editable=False)
    decided_at = models.DateTimeField(_("decided"), null=True, editable=False)

    objects = PublisherApplicationQuerySet.as_manager()

    class Meta:
        verbose_name = _("publisher application")
        verbose_name_plural = _("publisher applications")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(status="PENDING"), name="one_application_waits_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return str(self.tenant)


class MembershipQuerySet(models.QuerySet["Membership"]):
    def visible_to(self, principal: Principal) -> "MembershipQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class Membership(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=16, choices=TenantRole.choices, default=TenantRole.VIEWER)
    created_at = models.DateTimeField(_("joined"), auto_now_add=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_tenant_and_user")]

    def __str__(self) -> str:
        return f"{self.user} · {self.tenant}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, principal: Principal) -> "ApiKeyQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class ApiKey(models.Model):
    """A secret that acts for a tenant. Only its SHA-256 is kept: a 190-bit random secret needs no slow hash."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    name = models.CharField(_("name"), max_length=120)
    role = models.CharField(_("role"), max_length=16, choices=TenantRole.choices, default=TenantRole.DEVELOPER)
    prefix = models.CharField(_("prefix"), max_length=16, editable=False)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        indexes = [models.Index(fields=["tenant", "-created_at", "-id"], name="apikey_by_tenant")]

    def __str__(self) -> str:
        return f"{self.prefix}… · {self.name}"
