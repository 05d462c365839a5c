"""What publishers make of their plans: other terms, taken back, hidden, on offer again."""

from decimal import Decimal

import strawberry
import strawberry_django
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from marketplace.errors import ValidationProblem
from marketplace.publishing import plans
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions.models import MeteredUnit

from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import primary_key
from .publishing import MoneyInput
from .subscriptions import Plan


@strawberry.input(description="What is left out stays as it is.")
class UpdatePlanInput:
    plan: strawberry.ID
    name: str | None = None
    price: MoneyInput | None = strawberry.field(default=None, description="Per month.")
    included_units: Decimal | None = strawberry.field(default=None, description="Per month.")
    overage_price: MoneyInput | None = strawberry.field(
        default=strawberry.UNSET,
        description="Per unit, in the currency of the price; null: calls past the quota are refused.",
    )
    requests_per_second: int | None = None
    burst: int | None = strawberry.field(default=None, description="How many calls may come at once.")
    unit: MeteredUnit | None = None
    max_concurrency: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="How many calls may run at the same time; null: as many as the rate lets through.",
    )
    max_tokens_per_call: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="Required of a plan by token: as many are set aside while a call runs.",
    )
    requires_approval: bool | None = strawberry.field(
        default=None,
        description="Whether tenants ask for it and the publisher decides; not a term, so it holds at once.",
    )


@strawberry.input
class TakeBackPlanInput:
    plan: strawberry.ID


@strawberry.input
class HidePlanInput:
    plan: strawberry.ID
    hidden: bool = strawberry.field(default=True, description="False: it is on offer again.")


@strawberry.type
class _PlanPayload:
    row: strawberry.Private["QuerySet[subscriptions.Plan] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(
        graphql_type=Plan | None, description="Its latest terms; changed ones have an id of their own."
    )
    def plan(self) -> "QuerySet[subscriptions.Plan] | None":
        return self.row


@strawberry.type
class UpdatePlanPayload(_PlanPayload):
    pass


@strawberry.type
class TakeBackPlanPayload(_PlanPayload):
    pass


@strawberry.type
class HidePlanPayload(_PlanPayload):
    pass


@strawberry.type
class PlansMutation:
    @strawberry.mutation(
        description="Who subscribes from now on has the new terms at once. Who is on the plan keeps the old ones until "
        "its period ends, and sees the new ones as `nextPlan` until then."
    )
    @expected_failures(UpdatePlanPayload)
    def update_plan(self, info: Info, input: UpdatePlanInput) -> UpdatePlanPayload:
        plan_id = primary_key(input.plan, "Plan", path="input.plan")
        plan = plans.update_plan(info.context.principal, plan_id=plan_id, **_terms(input))
        return UpdatePlanPayload(row=_row(plan))

    @strawberry.mutation(
        description="The terms of before the last change: who still waits for it keeps them, who has the changed ones "
        "already goes back when its period ends."
    )
    @expected_failures(TakeBackPlanPayload)
    def take_back_plan(self, info: Info, input: TakeBackPlanInput) -> TakeBackPlanPayload:
        plan_id = primary_key(input.plan, "Plan", path="input.plan")
        return TakeBackPlanPayload(row=_row(plans.take_back_plan(info.context.principal, plan_id=plan_id)))

    @strawberry.mutation(description="Nobody can choose a hidden plan; who is on it stays on it.")
    @expected_failures(HidePlanPayload)
    def hide_plan(self, info: Info, input: HidePlanInput) -> HidePlanPayload:
        plan_id = primary_key(input.plan, "Plan", path="input.plan")
        return HidePlanPayload(row=_row(plans.hide_plan(info.context.principal, plan_id=plan_id, hidden=input.hidden)))


def _row(plan: subscriptions.Plan) -> "QuerySet[subscriptions.Plan]":
    return subscriptions.Plan.objects.filter(pk=plan.pk)


def _terms(input: UpdatePlanInput) -> plans.Terms:
    terms: plans.Terms = {}
    if input.name is not None:
        terms["name"] = input.name
    if input.price is not None:
        terms["price"], terms["currency"] = input.price.amount, input.price.currency
    if input.included_units is not None:
        terms["included_units"] = input.included_units
    if input.overage_price is not strawberry.UNSET:
        overage = input.overage_price
        if overage is not None and input.price is None:
            raise ValidationProblem(_("Give the price as well: it says the currency of both."), path="input.price")
        if overage is not None and input.price is not None and overage.currency != input.price.currency:
            raise ValidationProblem(
                _("A plan has one currency: give this price in the currency of the other one."),
                path="input.overagePrice.currency",
            )
        terms["overage_price"] = None if overage is None else overage.amount
    if input.requests_per_second is not None:
        terms["requests_per_second"] = input.requests_per_second
    if input.burst is not None:
        terms["burst"] = input.burst
    if input.unit is not None:
        terms["unit"] = input.unit
    if input.requires_approval is not None:
        terms["requires_approval"] = input.requires_approval
    if input.max_concurrency is not strawberry.UNSET:
        terms["max_concurrency"] = input.max_concurrency
    if input.max_tokens_per_call is not strawberry.UNSET:
        terms["max_tokens_per_call"] = input.max_tokens_per_call
    return terms
