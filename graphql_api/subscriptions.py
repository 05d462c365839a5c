"""Plans, and the contracts that tenants have on them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import strawberry
import strawberry_django
from django.db.models import Expression, QuerySet
from strawberry import relay

from marketplace.metering.current import current_quota, current_terms
from marketplace.subscriptions import actions
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions.models import MeteredUnit, ModelSubscriptionStatus

from .catalog import Model, ModelVersion
from .connections import Order
from .context import Info
from .errors import Problem
from .metering import Quota
from .money import Money
from .mutation import expected_failures
from .nodes import ByPrimaryKey, primary_key
from .requests import ModelSubscriptionRequest, rows_of

strawberry.enum(ModelSubscriptionStatus)

NEWEST_CONTRACT_FIRST = Order("subscribed", ("created_at", "id"))


@strawberry_django.type(subscriptions.Plan, description="What a publisher offers for one model.")
class Plan(ByPrimaryKey, relay.Node):
    name: str
    unit: MeteredUnit
    requires_approval: bool = strawberry_django.field(description="Tenants ask for it, and its publisher decides.")
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
        only=["successor_id"],
        description="What its publisher has made of these terms: who is on them moves there when a period begins from "
        "`successorFrom` on. Null for the latest ones.",
        graphql_type=Annotated["Plan", strawberry.lazy(".subscriptions")] | None,
    )
    def successor(self: Any) -> Any:
        return self.successor

    successor_from: datetime | None

    @strawberry_django.field(
        only=["overage_price", "currency"], description="Per unit; null: calls past the quota are refused."
    )
    def overage_price(self: Any) -> Money | None:
        return None if self.overage_price is None else Money(amount=self.overage_price, currency=self.currency)


# What the plan's fields are made of, and its terms compared by.
_TERMS = [
    *("plan_id", "created_at", "status"),
    *(f"plan__{field.attname}" for field in subscriptions.Plan._meta.concrete_fields),
]


def _with(annotations: dict[str, Expression], row: Any) -> Any:
    """The row with these, which it has already where the optimizer saw to it."""
    if all(hasattr(row, name) for name in annotations):
        return row
    return subscriptions.ModelSubscription.objects.annotate(**annotations).select_related("plan").get(pk=row.pk)


def _plan(row: Any, which: str) -> Any:
    """Most plans never change; of one that did, the terms are looked up until the contract is moved to them."""
    wanted = row.plan_id if row.status == ModelSubscriptionStatus.CANCELLED else getattr(row, which)
    return row.plan if wanted == row.plan_id else subscriptions.Plan.objects.get(pk=wanted)


def _next_plan(row: Any) -> Any:
    row = _with(current_terms(), row)
    now, then = _plan(row, "terms_id"), _plan(row, "next_terms_id")
    return then if now.terms != then.terms else None


@strawberry_django.type(subscriptions.ModelSubscription, description="A tenant's contract on a plan of a model.")
class ModelSubscription(ByPrimaryKey, relay.Node):
    model: Model
    status: ModelSubscriptionStatus
    created_at: datetime
    pinned_version: ModelVersion | None = strawberry_django.field(
        description="Answers calls that name no version, until it is retired; null: the live one answers."
    )

    @strawberry_django.field(
        graphql_type=Plan,
        annotate=current_terms(),
        select_related=["plan"],
        only=_TERMS,
        description="Its terms in this period.",
    )
    def plan(self: Any) -> Any:
        return _plan(_with(current_terms(), self), "terms_id")

    @strawberry_django.field(
        graphql_type=Plan | None,
        annotate=current_terms(),
        select_related=["plan"],
        only=_TERMS,
        description="The terms that its publisher has announced: they hold from `nextPlanFrom` on, unless the tenant "
        "cancels or the publisher changes them again. Null when nothing changes.",
    )
    def next_plan(self: Any) -> Any:
        return _next_plan(self)

    @strawberry_django.field(
        annotate=current_terms(),
        select_related=["plan"],
        only=_TERMS,
        description="When this period ends, if the next one has other terms.",
    )
    def next_plan_from(self: Any) -> datetime | None:
        return None if _next_plan(self) is None else _with(current_terms(), self).quota_period_end

    @strawberry_django.field(annotate=current_quota(), only=["created_at", "plan_id"])
    def quota(self: Any) -> Quota:
        row = _with(current_quota(), self)
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
    message: str = strawberry.field(
        default="", description="To the publisher, with a plan that is given on request: at most 2,000 characters."
    )


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
    request_row: strawberry.Private["QuerySet[subscriptions.ModelSubscriptionRequest] | None"] = None

    @strawberry_django.field(
        graphql_type=ModelSubscriptionRequest | None,
        description="Instead of a subscription, when the plan is given on request: its publisher decides.",
    )
    def model_subscription_request(self) -> "QuerySet[subscriptions.ModelSubscriptionRequest] | None":
        return self.request_row


@strawberry.type
class CancelModelSubscriptionPayload(_ModelSubscriptionPayload):
    pass


def _row(subscription: subscriptions.ModelSubscription) -> "QuerySet[subscriptions.ModelSubscription]":
    return subscriptions.ModelSubscription.objects.filter(pk=subscription.pk)


@strawberry.type
class SubscriptionsMutation:
    @strawberry.mutation(
        description="On a model that the tenant has a subscription to, a change of plan. A plan that is given on "
        "request is asked for; asking again changes the request."
    )
    @expected_failures(SubscribeToModelPayload)
    def subscribe_to_model(self, info: Info, input: SubscribeToModelInput) -> SubscribeToModelPayload:
        plan_id = primary_key(input.plan, "Plan", path="input.plan")
        made = actions.subscribe_or_ask(
            info.context.principal, model_ref=input.model, plan_id=plan_id, message=input.message
        )
        if isinstance(made, subscriptions.ModelSubscriptionRequest):
            return SubscribeToModelPayload(request_row=rows_of(made))
        return SubscribeToModelPayload(row=_row(made))

    @strawberry.mutation(description="Calls are refused from the next one on.")
    @expected_failures(CancelModelSubscriptionPayload)
    def cancel_model_subscription(
        self, info: Info, input: CancelModelSubscriptionInput
    ) -> CancelModelSubscriptionPayload:
        subscription_id = primary_key(input.model_subscription, "ModelSubscription", path="input.modelSubscription")
        return CancelModelSubscriptionPayload(
            row=_row(actions.cancel(info.context.principal, subscription_id=subscription_id))
        )
