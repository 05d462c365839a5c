"""What a publisher offers: the plans on its models."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import TypedDict, Unpack
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.errors import ValidationProblem
from marketplace.subscriptions.models import MAX_UNITS, MeteredUnit, Plan

from .ownership import own_model, own_plan
from .validation import check, input_path, save

_TAKEN = gettext_lazy("This model has a plan of this name already: choose another one.")

# A change holds for periods that begin from then on: later than it commits, so that no period has two answers.
NOTICE = timedelta(minutes=1)
# Whoever has not called for long follows them one by one.
MOST_CHANGES, CHANGES_WITHIN = 100, timedelta(days=31)


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
    requires_approval: bool = False,
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
        requires_approval=requires_approval,
        position=model.plans.filter(successor=None).count(),
    )
    _check(plan)
    save(plan, taken=_TAKEN, path="input.name")
    return plan


class Terms(TypedDict, total=False):
    """As `create_plan` has them."""

    name: str
    price: Decimal
    included_units: Decimal
    requests_per_second: int
    burst: int
    overage_price: Decimal | None
    currency: str
    unit: str
    max_concurrency: int | None
    max_tokens_per_call: int | None
    requires_approval: bool


@transaction.atomic
def update_plan(principal: Principal, *, plan_id: UUID, **terms: Unpack[Terms]) -> Plan:
    """The plan with these terms, and those that are not named as they are: a row of its own when they are others.

    The name, and whether tenants have to ask for it, are no terms: they change for everybody at once.
    Who subscribes from now on has them at once. Who is on the plan already keeps the terms that it has until its period
    ends, and is told before.
    """
    plan = _latest(principal, plan_id)
    changed = Plan(**{"name": plan.name, "requires_approval": plan.requires_approval, **plan.terms, **terms})
    changed.name = changed.name.strip()
    _check(changed)
    if changed.terms != plan.terms:
        return _succeed(plan, changed)
    plan.name, plan.requires_approval = changed.name, changed.requires_approval
    save(plan, taken=_TAKEN, path="input.name", fields=["name", "requires_approval"])
    return plan


@transaction.atomic
def take_back_plan(principal: Principal, *, plan_id: UUID) -> Plan:
    """The terms of before the last change, as one more change: who still waits for it keeps the terms that it has.

    Who has the changed terms already goes back when its period ends.
    """
    plan = _latest(principal, plan_id)
    before = Plan.objects.filter(successor=plan).first()
    if before is None:
        raise ValidationProblem(_("The terms of this plan have never changed."), path="input.plan")
    return _succeed(plan, Plan(name=before.name, requires_approval=plan.requires_approval, **before.terms))


@transaction.atomic
def hide_plan(principal: Principal, *, plan_id: UUID, hidden: bool = True) -> Plan:
    """Nobody can choose a hidden plan; who is on it stays on it. `hidden=False` offers it again."""
    plan = _latest(principal, plan_id)
    if hidden != (plan.hidden_at is not None):
        plan.hidden_at = timezone.now() if hidden else None
        plan.save(update_fields=["hidden_at"])
    return plan


def _latest(principal: Principal, plan_id: UUID) -> Plan:
    """Locked: whoever subscribes at this moment waits, and agrees to the terms that there are then."""
    plan = own_plan(principal, plan_id)
    if plan.successor_id is not None:
        raise ValidationProblem(_("These terms have changed since: go by the plan's latest ones."), path="input.plan")
    return plan


def _succeed(plan: Plan, changed: Plan) -> Plan:
    now = timezone.now()
    changes = Plan.objects.filter(model=plan.model_id, predecessor__isnull=False, created_at__gt=now - CHANGES_WITHIN)
    if changes.count() >= MOST_CHANGES:
        raise ValidationProblem(
            _("The plans of a model change at most %(most)d times in %(days)d days.")
            % {"most": MOST_CHANGES, "days": CHANGES_WITHIN.days},
            path="input.plan",
        )
    changed.model_id, changed.line, changed.position, changed.hidden_at = (
        *(plan.model_id, plan.line, plan.position),
        plan.hidden_at,
    )
    # First, so that the name is free; PostgreSQL looks for the successor when this is committed.
    plan.successor, plan.successor_from = changed, now + NOTICE
    plan.save(update_fields=["successor", "successor_from"])
    save(changed, taken=_TAKEN, path="input.name")
    return changed


def _check(plan: Plan) -> None:
    check(plan, ("name", *Plan.TERMS), _plan_path)
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
