"""May this principal do this to that? Who is asking, what a role allows, and lookup with permission in one call."""

import enum
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .errors import NotFound, PermissionDenied, Unauthenticated


class TenantRole(models.TextChoices):
    OWNER = "OWNER", gettext_lazy("Owner")
    ADMIN = "ADMIN", gettext_lazy("Administrator")
    DEVELOPER = "DEVELOPER", gettext_lazy("Developer")
    BILLING = "BILLING", gettext_lazy("Billing")
    VIEWER = "VIEWER", gettext_lazy("Viewer")


class Permission(enum.Enum):
    INVOKE = gettext_lazy("invoke models")
    MANAGE_API_KEYS = gettext_lazy("manage API keys")
    MANAGE_SUBSCRIPTIONS = gettext_lazy("subscribe and cancel")
    MANAGE_SPENDING = gettext_lazy("set spending limits")
    MANAGE_MEMBERS = gettext_lazy("manage members")
    PUBLISH = gettext_lazy("publish models")


PERMISSIONS: dict[TenantRole, frozenset[Permission]] = {
    TenantRole.OWNER: frozenset(Permission),
    TenantRole.ADMIN: frozenset(Permission),
    TenantRole.DEVELOPER: frozenset({Permission.INVOKE, Permission.MANAGE_API_KEYS, Permission.PUBLISH}),
    TenantRole.BILLING: frozenset({Permission.MANAGE_SUBSCRIPTIONS, Permission.MANAGE_SPENDING}),
    TenantRole.VIEWER: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A user acting for a tenant, an API key, or nobody (`ANONYMOUS`).

    A signed-in user who belongs to no tenant has a `user_id` and no `tenant_id`.
    """

    user_id: UUID | None = None
    tenant_id: UUID | None = None
    group_id: int | None = None
    api_key_id: UUID | None = None
    role: TenantRole | None = None
    is_publisher: bool = False

    def can(self, permission: Permission) -> bool:
        return self.role is not None and permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raises Unauthenticated for nobody, PermissionDenied for somebody whose role does not allow it."""
        if self.tenant_id is None:
            raise Unauthenticated(_("Sign in, or send an API key as `Authorization: Bearer <key>`."))
        if not self.can(permission):
            raise PermissionDenied(
                _("Your role may not %(what)s here. Ask an owner or administrator of your tenant.")
                % {"what": permission.value}
            )


ANONYMOUS = Principal()

M = TypeVar("M", bound=models.Model)
M_co = TypeVar("M_co", bound=models.Model, covariant=True)


class Visible(Protocol[M_co]):
    """A manager or QuerySet that knows who may see its rows."""

    def visible_to(self, principal: Principal) -> models.QuerySet[M_co]: ...


def find(
    rows: Visible[M],
    principal: Principal,
    permission: Permission | None = None,
    *,
    path: str | None = None,
    lock: bool = False,
    **lookup: object,
) -> M:
    """The one row that `lookup` names, if the principal may see it and, with `permission`, act on it.

    Raises NotFound when it is missing, malformed or hidden (the three answer alike), then PermissionDenied.
    `lock` takes the row FOR UPDATE and needs a transaction.
    """
    visible = rows.visible_to(principal)
    if lock:
        visible = visible.select_for_update(of=("self",))
    try:
        row = visible.filter(**lookup).first()
    except (ValueError, ValidationError):
        row = None
    if row is None:
        if permission is not None and principal.tenant_id is None:
            principal.require(permission)
        raise NotFound(_("There is no such object, or it is not yours to see."), path=path)
    if permission is not None:
        principal.require(permission)
    return row
