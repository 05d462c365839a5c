"""What members do with their tenant: found it, join it, make and revoke its keys."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from marketplace.access import PERMISSIONS, Permission, Principal, TenantRole, find
from marketplace.errors import NotFound, ValidationProblem

from . import keys
from .models import ApiKey, Membership, Tenant, User

MAX_NAME = 120
MAX_LIVE_KEYS = 100


@transaction.atomic
def found_tenant(*, name: str, owner: User | None, slug: str | None = None, is_publisher: bool = False) -> Tenant:
    """A new tenant; without a `slug`, one is derived from the name and numbered until it is free."""
    tenant = Tenant(slug=slug or _free_slug(name), name=name, is_publisher=is_publisher)
    tenant.group = Group.objects.create(name=f"tenant:{tenant.pk}")
    tenant.save()
    if owner is not None:
        Membership.objects.create(tenant=tenant, user=owner, role=TenantRole.OWNER)
    return tenant


def _free_slug(name: str) -> str:
    stem = slugify(name)[:50].strip("-") or "tenant"
    taken = set(Tenant.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    return next(slug for n in range(1, len(taken) + 2) if (slug := stem if n == 1 else f"{stem}-{n}") not in taken)


@transaction.atomic
def create_api_key(
    principal: Principal, *, name: str, role: TenantRole = TenantRole.DEVELOPER, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """The key's row and its secret, which is never readable again. A key may do no more than whoever makes it."""
    principal.require(Permission.MANAGE_API_KEYS)
    assert principal.tenant_id is not None
    name = name.strip()
    if not name:
        raise ValidationProblem(_("Give the key a name that says where it is used."), path="input.name")
    if len(name) > MAX_NAME or "\x00" in name:
        raise ValidationProblem(
            _("A name has at most %(most)d printable characters.") % {"most": MAX_NAME}, path="input.name"
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationProblem(_("This time has passed already: choose a later one."), path="input.expiresAt")
    if principal.role is None or not PERMISSIONS[role] <= PERMISSIONS[principal.role]:
        raise ValidationProblem(_("A key may not do more than you may yourself."), path="input.role")
    # The tenant's row serialises its key makers, so that the count below cannot be outrun.
    tenant = Tenant.objects.select_for_update().get(pk=principal.tenant_id)
    if tenant.api_keys.filter(revoked_at=None).count() >= MAX_LIVE_KEYS:
        raise ValidationProblem(
            _("A tenant has at most %(most)d live keys: revoke one first.") % {"most": MAX_LIVE_KEYS}, path="input"
        )
    new = keys.draw()
    key = ApiKey.objects.create(
        tenant=tenant,
        created_by_id=principal.user_id,
        name=name,
        role=role,
        prefix=new.prefix,
        digest=new.digest,
        expires_at=expires_at,
    )
    return key, new.secret


@transaction.atomic
def revoke_api_key(principal: Principal, *, api_key_id: UUID) -> ApiKey:
    """Holds from the next request on. Revoking twice keeps the first time."""
    key: ApiKey = find(
        ApiKey.objects, principal, Permission.MANAGE_API_KEYS, path="input.apiKey", lock=True, pk=api_key_id
    )
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
    return key


def tenant_to_act_for(principal: Principal, *, tenant_id: UUID) -> Tenant:
    """One of the tenants that the signed-in user belongs to. Raises NotFound for any other."""
    mine = Membership.objects.filter(user_id=principal.user_id) if principal.user_id else Membership.objects.none()
    membership = mine.filter(tenant_id=tenant_id).select_related("tenant").first()
    if membership is None:
        raise NotFound(_("There is no such object, or it is not yours to see."), path="input.tenant")
    return membership.tenant
