"""From what a request carries (a session, or `Authorization: Bearer <key>`) to a Principal, anew for each request."""

from datetime import timedelta
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import ANONYMOUS, Principal, TenantRole
from marketplace.errors import Unauthenticated

from . import keys
from .models import ApiKey, Membership, User

LAST_USED_RESOLUTION = timedelta(minutes=1)


def principal_from_key(secret: str) -> Principal:
    """Raises Unauthenticated for a key that is malformed, unknown, revoked or expired: all alike."""
    refused = Unauthenticated(
        _("This API key is not valid: it may be mistyped, expired or revoked. Create one under API keys.")
    )
    if not keys.is_well_formed(secret):
        raise refused
    key = (
        ApiKey.objects.filter(digest=keys.digest(secret), revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .select_related("tenant")
        .first()
    )
    if key is None:
        raise refused
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return Principal(
        tenant_id=key.tenant_id,
        group_id=key.tenant.group_id,
        api_key_id=key.pk,
        role=TenantRole(key.role),
        is_publisher=key.tenant.is_publisher,
    )


def principal_from_user(user_id: UUID, preferred_tenant: str | None = None) -> Principal:
    """The user acting for the tenant they chose last, else for the one they joined first."""
    memberships = Membership.objects.filter(user_id=user_id, user__is_active=True).select_related("tenant")
    ordered = sorted(
        memberships.order_by("created_at", "id"), key=lambda membership: str(membership.tenant_id) != preferred_tenant
    )
    if not ordered:
        return Principal(user_id=user_id)
    membership = ordered[0]
    return Principal(
        user_id=user_id,
        tenant_id=membership.tenant_id,
        group_id=membership.tenant.group_id,
        role=TenantRole(membership.role),
        is_publisher=membership.tenant.is_publisher,
    )


SESSION_TENANT = "tenant"


def principal_from_session(request: HttpRequest) -> Principal:
    """Whoever signed in with this browser, or nobody. Synchronous: it may load the session and the user."""
    user = request.user
    if not isinstance(user, User):
        return ANONYMOUS
    return principal_from_user(user.pk, request.session.get(SESSION_TENANT))
