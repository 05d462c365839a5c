"""From what a request carries (a session, or `Authorization: Bearer <key>`) to a Principal, anew for each request."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from psycopg.rows import TupleRow

from marketplace.access import ANONYMOUS, Principal, TenantRole
from marketplace.errors import Unauthenticated
from marketplace.hints import Hints

from . import keys
from .models import ApiKey, Membership, User

LAST_USED_RESOLUTION = timedelta(minutes=1)

# A statement's first row, from wherever the caller keeps its connections.
Fetch = Callable[[LiteralString, Sequence[Any]], Awaitable[TupleRow | None]]

# By digest. No older than that: looking a key up is what notes its use.
_hints: Hints[bytes, Principal] = Hints(most=10_000, seconds=LAST_USED_RESOLUTION.total_seconds())


def principal_from_key(secret: str) -> Principal:
    """Raises Unauthenticated for a key that is malformed, unknown, revoked or expired: all alike."""
    if not keys.is_well_formed(secret):
        raise _not_valid()
    key = (
        ApiKey.objects.filter(digest=keys.digest(secret), revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()))
        .select_related("tenant")
        .first()
    )
    if key is None:
        raise _not_valid()
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


# Made of the same conditions as principal_from_key.
_BY_DIGEST: LiteralString = """
WITH found AS (
    SELECT key.id, key.tenant_id, key.role, tenant.group_id, tenant.is_publisher, key.last_used_at
      FROM tenants_apikey key JOIN tenants_tenant tenant ON tenant.id = key.tenant_id
     WHERE key.digest = %s AND key.revoked_at IS NULL
       AND (key.expires_at IS NULL OR key.expires_at > statement_timestamp())
), seen AS (
    UPDATE tenants_apikey key SET last_used_at = statement_timestamp()
      FROM found
     WHERE key.id = found.id AND (found.last_used_at IS NULL OR statement_timestamp() - found.last_used_at > %s)
)
SELECT id, tenant_id, role, group_id, is_publisher FROM found
"""


async def principal_by_key(secret: str, fetch: Fetch) -> Principal:
    """As principal_from_key, in one round trip and without the ORM."""
    digest = _digest(secret)
    principal = await _by_digest(digest, fetch)
    if principal is None:
        _hints.forget(digest)
        raise _not_valid()
    _hints.put(digest, principal)
    return principal


async def hinted_principal(secret: str, fetch: Fetch) -> Principal | None:
    """Whom the key stood for within the last minute. Admission has to confirm it, and None is to be looked up anew."""
    known = _hints.get(keys.digest(secret))
    if known is not None:
        return known
    digest = _digest(secret)
    return await _hints.find(digest, lambda: _by_digest(digest, fetch))


def _digest(secret: str) -> bytes:
    if not keys.is_well_formed(secret):
        raise _not_valid()
    return keys.digest(secret)


async def _by_digest(digest: bytes, fetch: Fetch) -> Principal | None:
    row = await fetch(_BY_DIGEST, (digest, LAST_USED_RESOLUTION))
    if row is None:
        return None
    key_id, tenant_id, role, group_id, is_publisher = row
    return Principal(
        tenant_id=tenant_id,
        group_id=group_id,
        api_key_id=key_id,
        role=TenantRole(role),
        is_publisher=is_publisher,
    )


def _not_valid() -> Unauthenticated:
    return Unauthenticated(
        _("This API key is not valid: it may be mistyped, expired or revoked. Create one under API keys.")
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
