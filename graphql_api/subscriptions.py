"""Plans, and the contracts that tenants have on them."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import strawberry
import strawberry_django
from django.db.models import QuerySet
from strawberry import relay

from marketplace.metering.current import current_quota
from marketplace.subscriptions import actions
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions.models import MeteredUnit, ModelSubscriptionStatus

from .catalog import Model, ModelVersion
from .connections import Order
from .context import Info
from .errors import Problem
from .metering import Money, Quota
from .mutation import expected_failures
from .nodes import ByPrimaryKey, primary_key

strawberry.enum(ModelSubscriptionStatus)
strawberry.enum(
    MeteredUnit,
    description="What one unit is: a call, an element of its input tensors (all together), a second that the model "
    "took, or a token as the model counts them in its output token_count.",
)

NEWEST_CONTRACT_FIRST = Order("subscribed", ("created_at", "id"))


@strawberry_django.type(subscriptions.Plan, description="What a publisher offers for one model.")
class Plan(ByPrimaryKey, relay.Node):
    name: str
    unit: MeteredUnit
    included_units: Decimal = strawberry_django.field(description="Per period.")
    requests_per_second: int
    burst: int
    max_concurrency: int | None = strawberry_django.field(
        description="How many calls may run at the same time; null: as many as the rate lets through."
    )

    max_tokens_per_call: int | None = strawberry_django.field(
        description="Of a plan by token: as many are set aside while a call runs, and no call is charged more."
    )

    @strawberry_django.field(only=["price", "currency"], description="Per period.")
    def price(self: Any) -> Money:
        return Money(amount=self.price, currency=self.currency)

    @strawberry_django.field(
        only=["overage_price", "currency"], description="Per unit; null: calls past the quota are refused."
    )
    def overage_price(self: Any) -> Money | None:
        return None if self.overage_price is None else Money(amount=self.overage_price, currency=self.currency)


@strawberry_django.type(subscriptions.ModelSubscription, description="A tenant's contract on a plan of a model.")
class ModelSubscription(ByPrimaryKey, relay.Node):
    model: Model
    plan: Plan
    status: ModelSubscriptionStatus
    created_at: datetime
    pinned_version: ModelVersion | None = strawberry_django.field(
        description="Answers calls that name no version, until it is retired; null: the live one answers."
    )

    @strawberry_django.field(annotate=current_quota(), only=["created_at"])
    def quota(self: Any) -> Quota:
        row = self
        if not hasattr(row, "quota_limit"):
            row = subscriptions.ModelSubscription.objects.annotate(**current_quota()).get(pk=self.pk)
        return Quota(
            period_start=row.quota_period_start,
            period_end=row.quota_period_end,
            limit=row.quota_limit,
            settled=row.quota_settled,
            held=row.quota_held,
        )


@strawberry.input
class SubscribeToModelInput:
    model: str = strawberry.field(description="publisher/name")
    plan: strawberry.ID


@strawberry.input
class CancelModelSubscriptionInput:
    model_subscription: strawberry.ID


@strawberry.type
class _ModelSubscriptionPayload:
    row: strawberry.Private["QuerySet[subscriptions.ModelSubscription] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ModelSubscription | None)
    def model_subscription(self) -> "QuerySet[subscriptions.ModelSubscription] | None":
        return self.row


@strawberry.type
class SubscribeToModelPayload(_ModelSubscriptionPayload):
    pass


@strawberry.type
class CancelModelSubscriptionPayload(_ModelSubscriptionPayload):
    pass


def _row(subscription: subscriptions.ModelSubscription) -> "QuerySet[subscriptions.ModelSubscription]":
    return subscriptions.ModelSubscription.objects.filter(pk=subscription.pk)


@strawberry.type
class SubscriptionsMutation:
    @strawberry.mutation(description="On a model that the tenant has a subscription to, a change of plan.")
    @expected_failures(SubscribeToModelPayload)
    def subscribe_to_model(self, info: Info, input: SubscribeToModelInput) -> SubscribeToModelPayload:
        plan_id = primary_key(input.plan, "Plan", path="input.plan")
        subscription = actions.subscribe(info.context.principal, model_ref=input.model, plan_id=plan_id)
        return SubscribeToModelPayload(row=_row(subscription))

    @strawberry.mutation(description="Calls are refused from the next one on.")
    @expected_failures(CancelModelSubscriptionPayload)
    def cancel_model_subscription(
        self, info: Info, input: CancelModelSubscriptionInput
    ) -> CancelModelSubscriptionPayload:
        subscription_id = primary_key(input.model_subscription, "ModelSubscription", path="input.modelSubscription")
        return CancelModelSubscriptionPayload(
            row=_row(actions.cancel(info.context.principal, subscription_id=subscription_id))
        )
