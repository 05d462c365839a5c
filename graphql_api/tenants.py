"""Who is here: the caller, the tenant they act for, and its keys."""

from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
import strawberry_django
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from strawberry import relay

from marketplace.access import PERMISSIONS, Principal, TenantRole
from marketplace.errors import PermissionDenied
from marketplace.metering import budgets
from marketplace.metering import models as metering
from marketplace.subscriptions import models as subscriptions
from marketplace.tenants import actions
from marketplace.tenants import models as accounts
from marketplace.tenants.authentication import SESSION_TENANT, principal_from_session

from .connections import Connection, Order, own
from .context import Info
from .errors import Problem
from .metering import LATEST_FIRST, Budget, Invocation
from .mutation import expected_failures
from .nodes import ByPrimaryKey, primary_key
from .requests import NEWEST_REQUEST_FIRST, ModelSubscriptionRequest
from .reviews import PublisherApplication
from .subscriptions import NEWEST_CONTRACT_FIRST, ModelSubscription

strawberry.enum(TenantRole)

NEWEST_KEY_FIRST = Order("created", ("created_at", "id"))


@strawberry_django.type(accounts.User)
class User(ByPrimaryKey, relay.Node):
    email: str
    display_name: str


@strawberry_django.type(accounts.ApiKey)
class ApiKey(ByPrimaryKey, relay.Node):
    name: str
    prefix: str = strawberry_django.field(
        description="Enough to recognise the key by; the secret is shown once, at creation."
    )
    role: TenantRole
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    budgets: list[Budget] = strawberry_django.field(
        description="What its calls past included units may cost in a month, in each currency; none: no limit but the "
        "tenant's spending caps."
    )


@strawberry_django.type(accounts.Tenant, description="An organisation, as its own members see it.")
class Tenant(ByPrimaryKey, relay.Node):
    slug: str
    name: str
    is_publisher: bool
    model_subscriptions = own(
        Connection[ModelSubscription],
        NEWEST_CONTRACT_FIRST,
        lambda tenant, principal: _own(subscriptions.ModelSubscription.objects, tenant, principal),
        "Cancelled ones as well, newest first.",
    )
    model_subscription_requests = own(
        Connection[ModelSubscriptionRequest],
        NEWEST_REQUEST_FIRST,
        lambda tenant, principal: _own(subscriptions.ModelSubscriptionRequest.objects, tenant, principal),
        "For plans that are given on request: decided ones as well, newest first.",
    )
    api_keys = own(
        Connection[ApiKey],
        NEWEST_KEY_FIRST,
        lambda tenant, principal: _own(accounts.ApiKey.objects, tenant, principal),
        "Revoked ones as well, newest first.",
    )
    invocations = own(
        Connection[Invocation],
        LATEST_FIRST,
        lambda tenant, principal: _own(metering.Hold.objects, tenant, principal),
        "Latest first.",
    )

    @strawberry_django.field(
        graphql_type=PublisherApplication | None,
        description="The last one, and what the operator says to it; null when the tenant never asked.",
    )
    def publisher_application(self: Any, info: Info) -> "QuerySet[accounts.PublisherApplication]":
        return _own(accounts.PublisherApplication.objects.order_by("-id"), self, info.context.principal)

    @strawberry_django.field(
        graphql_type=list[Budget],
        description="What all calls past included units may cost in a month, in each currency; none: no limit.",
    )
    def spending_caps(self: Any, info: Info) -> "QuerySet[metering.Budget]":
        return _own(metering.Budget.objects.filter(api_key=None), self, info.context.principal)


def _own(rows: Any, tenant: accounts.Tenant, principal: Principal) -> "QuerySet[Any]":
    """The tenant's rows, when it is the tenant acted for; of another one not even a query."""
    visible: QuerySet[Any] = rows.visible_to(principal)
    return visible if tenant.pk == principal.tenant_id else visible.none()


@strawberry.enum
class ViewerPermission(Enum):
    INVOKE = "INVOKE"
    MANAGE_API_KEYS = "MANAGE_API_KEYS"
    MANAGE_SUBSCRIPTIONS = "MANAGE_SUBSCRIPTIONS"
    MANAGE_SPENDING = "MANAGE_SPENDING"
    MANAGE_MEMBERS = "MANAGE_MEMBERS"
    PUBLISH = "PUBLISH"


@strawberry.type(description="Who is asking.")
class Viewer:
    principal: strawberry.Private[Principal]
    role: TenantRole

    @strawberry_django.field(graphql_type=User | None, description="Null for an API key that belongs to no person.")
    def user(self) -> "QuerySet[accounts.User] | None":
        return accounts.User.objects.filter(pk=self.principal.user_id) if self.principal.user_id else None

    @strawberry_django.field(graphql_type=Tenant, description="The tenant this request acts for.")
    def tenant(self) -> "QuerySet[accounts.Tenant]":
        return accounts.Tenant.objects.visible_to(self.principal)

    @strawberry_django.field(
        graphql_type=list[Tenant],
        description="Those the person may act for. Of all but the one acted for, only what they are called is shown.",
    )
    def tenants(self) -> "QuerySet[accounts.Tenant]":
        if self.principal.user_id is None:
            return accounts.Tenant.objects.visible_to(self.principal)
        return accounts.Tenant.objects.filter(memberships__user_id=self.principal.user_id).order_by("name", "id")

    @strawberry.field(description="What the role allows.")
    def permissions(self) -> list[ViewerPermission]:
        return [ViewerPermission[name] for name in sorted(one.name for one in PERMISSIONS[self.role])]


@strawberry.type
class TenantsQuery:
    @strawberry.field(description="Who is asking. Null for an anonymous caller.")
    def viewer(self, info: Info) -> Viewer | None:
        principal = info.context.principal
        return None if principal.role is None else Viewer(principal=principal, role=principal.role)


@strawberry.input
class CreateApiKeyInput:
    name: str
    expires_at: datetime | None = None
    role: TenantRole = strawberry.field(
        default=TenantRole.DEVELOPER, description="What the key may do: no more than whoever makes it."
    )


@strawberry.input
class RevokeApiKeyInput:
    api_key: strawberry.ID


@strawberry.input
class ActForTenantInput:
    tenant: strawberry.ID


@strawberry.type
class _ApiKeyPayload:
    row: strawberry.Private["QuerySet[accounts.ApiKey] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ApiKey | None)
    def api_key(self) -> "QuerySet[accounts.ApiKey] | None":
        return self.row


@strawberry.type(description="`secret` is readable in this answer and never again.")
class CreateApiKeyPayload(_ApiKeyPayload):
    secret: str | None = None


@strawberry.type
class RevokeApiKeyPayload(_ApiKeyPayload):
    pass


@strawberry.type
class ActForTenantPayload:
    viewer: Viewer | None = None
    errors: list[Problem] = strawberry.field(default_factory=list)


@strawberry.type
class TenantsMutation:
    @strawberry.mutation
    @expected_failures(CreateApiKeyPayload)
    def create_api_key(self, info: Info, input: CreateApiKeyInput) -> CreateApiKeyPayload:
        budgets.require_no_budget_of_its_own(info.context.principal)
        key, secret = actions.create_api_key(
            info.context.principal, name=input.name, role=input.role, expires_at=input.expires_at
        )
        return CreateApiKeyPayload(row=accounts.ApiKey.objects.filter(pk=key.pk), secret=secret)

    @strawberry.mutation(description="Holds from the next request on.")
    @expected_failures(RevokeApiKeyPayload)
    def revoke_api_key(self, info: Info, input: RevokeApiKeyInput) -> RevokeApiKeyPayload:
        key = actions.revoke_api_key(
            info.context.principal, api_key_id=primary_key(input.api_key, "ApiKey", path="input.apiKey")
        )
        return RevokeApiKeyPayload(row=accounts.ApiKey.objects.filter(pk=key.pk))

    @strawberry.mutation(description="From now on this browser's session acts for another tenant of the same person.")
    @expected_failures(ActForTenantPayload)
    def act_for_tenant(self, info: Info, input: ActForTenantInput) -> ActForTenantPayload:
        context = info.context
        if context.principal.api_key_id is not None:
            raise PermissionDenied(_("An API key acts for its own tenant alone."), path="input.tenant")
        tenant = actions.tenant_to_act_for(
            context.principal, tenant_id=primary_key(input.tenant, "Tenant", path="input.tenant")
        )
        context.request.session[SESSION_TENANT] = str(tenant.pk)
        context.principal = principal_from_session(context.request)
        assert context.principal.role is not None
        return ActForTenantPayload(viewer=Viewer(principal=context.principal, role=context.principal.role))
