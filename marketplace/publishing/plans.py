"""What a publisher offers: the plans on its models."""

import re
from decimal import Decimal
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.errors import ValidationProblem
from marketplace.subscriptions.models import MAX_UNITS, MeteredUnit, ModelSubscription, Plan

from .ownership import own_model, own_plan
from .validation import check, input_path, save

PLAN_TERMS = (
    *("price", "currency", "unit", "included_units", "overage_price"),
    *("requests_per_second", "burst", "max_concurrency", "max_tokens_per_call"),
)


@transaction.atomic
def create_plan(
    principal: Principal,
    *,
    model_ref: str,
    name: str,
    price: Decimal,
    included_units: Decimal,
    requests_per_second: int,
    burst: int,
    overage_price: Decimal | None = None,
    currency: str = "USD",
    unit: str = MeteredUnit.CALL,
    max_concurrency: int | None = None,
    max_tokens_per_call: int | None = None,
) -> Plan:
    """On offer at once. `price` per month and `overage_price` per `unit` are in `currency` (ISO 4217)."""
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    plan = Plan(
        model=model,
        name=name.strip(),
        price=price,
        currency=currency,
        included_units=included_units,
        overage_price=overage_price,
        requests_per_second=requests_per_second,
        burst=burst,
        unit=unit,
        max_concurrency=max_concurrency,
        max_tokens_per_call=max_tokens_per_call,
        position=model.plans.count(),
    )
    _check(plan)
    save(plan, taken=_("This model has a plan of this name already: choose another one."), path="input.name")
    return plan


@transaction.atomic
def update_plan(
    principal: Principal,
    *,
    plan_id: UUID,
    name: str,
    price: Decimal,
    included_units: Decimal,
    requests_per_second: int,
    burst: int,
    overage_price: Decimal | None,
    currency: str,
    unit: str,
    max_concurrency: int | None,
    max_tokens_per_call: int | None,
) -> Plan:
    """A plan that tenants are on keeps its terms, for they are a contract: only its name may still change."""
    # The lock holds back whoever subscribes at this moment, until these terms are the ones that they agree to.
    plan = own_plan(principal, plan_id)
    before = [getattr(plan, term) for term in PLAN_TERMS]
    plan.name, plan.price, plan.currency, plan.included_units = name.strip(), price, currency, included_units
    plan.overage_price, plan.requests_per_second, plan.burst = overage_price, requests_per_second, burst
    plan.unit, plan.max_concurrency, plan.max_tokens_per_call = unit, max_concurrency, max_tokens_per_call
    _check(plan)
    if before != [getattr(plan, term) for term in PLAN_TERMS] and (
        ModelSubscription.objects.current().filter(plan=plan).exists()
    ):
        raise ValidationProblem(
            _("Tenants are subscribed on these terms. Hide this plan and offer a new one instead."), path="input"
        )
    save(
        plan,
        taken=_("This model has a plan of this name already: choose another one."),
        path="input.name",
        fields=["name", *PLAN_TERMS],
    )
    return plan


@transaction.atomic
def hide_plan(principal: Principal, *, plan_id: UUID, hidden: bool = True) -> Plan:
    """Nobody can choose a hidden plan; who is on it stays on it. `hidden=False` offers it again."""
    plan = own_plan(principal, plan_id)
    if hidden != (plan.hidden_at is not None):
        plan.hidden_at = timezone.now() if hidden else None
        plan.save(update_fields=["hidden_at"])
    return plan


def _check(plan: Plan) -> None:
    check(plan, ("name", *PLAN_TERMS), _plan_path)
    if not re.fullmatch("[A-Z]{3}", plan.currency):
        raise ValidationProblem(
            _("A currency is three capital letters (ISO 4217), as in USD."), path=_plan_path("currency")
        )
    if plan.unit == MeteredUnit.TOKEN and plan.max_tokens_per_call is None:
        raise ValidationProblem(
            _("Say how many tokens a call takes at most: as many are set aside while it runs."),
            path=_plan_path("max_tokens_per_call"),
        )
    if plan.included_units > MAX_UNITS:
        raise ValidationProblem(
            _("At most %(most)d units can be counted in a month.") % {"most": MAX_UNITS},
            path=_plan_path("included_units"),
        )


def _plan_path(field: str) -> str:
    return {
        "price": "input.price.amount",
        "currency": "input.price.currency",
        "overage_price": "input.overagePrice.amount",
    }.get(field) or input_path(field)
