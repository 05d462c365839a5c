"""Plans that are given on request: tenants ask, publishers decide."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
import strawberry_django
from django.db.models import QuerySet
from strawberry import relay

from marketplace.publishing import approvals
from marketplace.subscriptions import actions
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions.models import RequestStatus

from .connections import Order
from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import ByPrimaryKey, primary_key

if TYPE_CHECKING:
    from .catalog import Model
    from .subscriptions import Plan

strawberry.enum(RequestStatus, name="ModelSubscriptionRequestStatus")

NEWEST_REQUEST_FIRST = Order("asked", ("id",))


@strawberry_django.type(
    subscriptions.ModelSubscriptionRequest,
    description="A tenant's wish for a plan that its publisher gives on request. The tenant and the publisher see it.",
)
class ModelSubscriptionRequest(ByPrimaryKey, relay.Node):
    model: Annotated["Model", strawberry.lazy(".catalog")]
    plan: Annotated["Plan", strawberry.lazy(".subscriptions")]
    status: RequestStatus
    message: str = strawberry_django.field(description="What the tenant says.")
    reason: str = strawberry_django.field(description="What the publisher says to it.")
    created_at: datetime
    decided_at: datetime | None

    @strawberry_django.field(
        select_related=["tenant"], only=["tenant__slug"], description="The address of the tenant that asks."
    )
    def tenant_slug(self: Any) -> str:
        slug: str = self.tenant.slug
        return slug

    @strawberry_django.field(select_related=["tenant"], only=["tenant__name"], description="What it is called.")
    def tenant_name(self: Any) -> str:
        name: str = self.tenant.name
        return name


@strawberry.input
class ModelSubscriptionRequestInput:
    model_subscription_request: strawberry.ID


@strawberry.input
class DeclineModelSubscriptionRequestInput:
    model_subscription_request: strawberry.ID
    reason: str = strawberry.field(description="For the tenant to read: 1 to 2,000 characters.")


@strawberry.type
class _RequestPayload:
    row: strawberry.Private["QuerySet[subscriptions.ModelSubscriptionRequest] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ModelSubscriptionRequest | None)
    def model_subscription_request(self) -> "QuerySet[subscriptions.ModelSubscriptionRequest] | None":
        return self.row


@strawberry.type
class WithdrawModelSubscriptionRequestPayload(_RequestPayload):
    pass


@strawberry.type
class ApproveModelSubscriptionRequestPayload(_RequestPayload):
    pass


@strawberry.type
class DeclineModelSubscriptionRequestPayload(_RequestPayload):
    pass


def rows_of(request: subscriptions.ModelSubscriptionRequest) -> "QuerySet[subscriptions.ModelSubscriptionRequest]":
    return subscriptions.ModelSubscriptionRequest.objects.filter(pk=request.pk)


@strawberry.type
class RequestsMutation:
    @strawberry.mutation(description="The tenant asks no longer. Withdrawing twice changes nothing.")
    @expected_failures(WithdrawModelSubscriptionRequestPayload)
    def withdraw_model_subscription_request(
        self, info: Info, input: ModelSubscriptionRequestInput
    ) -> WithdrawModelSubscriptionRequestPayload:
        request = actions.withdraw_request(info.context.principal, request_id=_key(input))
        return WithdrawModelSubscriptionRequestPayload(row=rows_of(request))

    @strawberry.mutation(description="By the publisher: the tenant is subscribed from now on.")
    @expected_failures(ApproveModelSubscriptionRequestPayload)
    def approve_model_subscription_request(
        self, info: Info, input: ModelSubscriptionRequestInput
    ) -> ApproveModelSubscriptionRequestPayload:
        request = approvals.approve_request(info.context.principal, request_id=_key(input))
        return ApproveModelSubscriptionRequestPayload(row=rows_of(request))

    @strawberry.mutation(description="By the publisher, who says why. The tenant may ask again.")
    @expected_failures(DeclineModelSubscriptionRequestPayload)
    def decline_model_subscription_request(
        self, info: Info, input: DeclineModelSubscriptionRequestInput
    ) -> DeclineModelSubscriptionRequestPayload:
        request = approvals.decline_request(info.context.principal, request_id=_key(input), reason=input.reason)
        return DeclineModelSubscriptionRequestPayload(row=rows_of(request))


def _key(input: ModelSubscriptionRequestInput | DeclineModelSubscriptionRequestInput) -> UUID:
    return primary_key(
        input.model_subscription_request, "ModelSubscriptionRequest", path="input.modelSubscriptionRequest"
    )
