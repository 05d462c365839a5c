"""A publisher's figures over time: calls and revenue by day, plan, tenant and model. Days are UTC's."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal
from marketplace.errors import ValidationProblem

from .models import DailyUsage, MeteredUnit, Plan

MOST_DAYS = 366
MOST_TENANTS = 100

Amounts = dict[str, Decimal]  # by currency (ISO 4217)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a day, a tenant or a model."""

    calls: int
    revenue: Amounts


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """`plan` None: the publisher's own calls. Units of the plan's `unit`."""

    plan: Plan | None
    unit: str
    calls: int
    units: Decimal
    revenue: Amounts


def may_see(principal: Principal) -> bool:
    """Who publishes for a tenant, or looks after its money."""
    return principal.can(Permission.PUBLISH) or principal.can(Permission.MANAGE_SPENDING)


def of_publisher(principal: Principal) -> "QuerySet[DailyUsage]":
    """Of the tenant's own models."""
    return (
        DailyUsage.objects.filter(model__publisher_id=principal.tenant_id)
        if may_see(principal)
        else DailyUsage.objects.none()
    )


def between(rows: "QuerySet[DailyUsage]", first: date, last: date) -> "QuerySet[DailyUsage]":
    """Both days included. Raises ValidationProblem for more than MOST_DAYS days, or none."""
    if last < first:
        raise ValidationProblem(_("The last day is before the first."), path="to")
    if (last - first).days >= MOST_DAYS:
        raise ValidationProblem(_("At most %(most)d days at once.") % {"most": MOST_DAYS}, path="to")
    return rows.filter(day__gte=first, day__lte=last)


def by_day(rows: "QuerySet[DailyUsage]", first: date, last: date) -> dict[date, Figures]:
    """Each day from `first` to `last`, also those on which nothing happened."""
    found = _grouped(between(rows, first, last), "day")
    nothing = Figures(0, {})
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return {day: found.get(day, nothing) for day in days}


def by_tenant(rows: "QuerySet[DailyUsage]") -> dict[Any, Figures]:
    """By id, of the tenants that call most: at most MOST_TENANTS."""
    busiest = rows.order_by().values("tenant").annotate(all_calls=Sum("calls")).order_by("-all_calls", "tenant")
    ids = [row["tenant"] for row in busiest[:MOST_TENANTS]]
    found = _grouped(rows.filter(tenant__in=ids), "tenant")
    return {each: found[each] for each in ids}


def by_model(rows: "QuerySet[DailyUsage]") -> dict[Any, Figures]:
    """By id, those that are called most first."""
    found = _grouped(rows, "model")
    return dict(sorted(found.items(), key=lambda each: (-each[1].calls, each[0])))


def by_plan(rows: "QuerySet[DailyUsage]") -> list[PlanFigures]:
    """Changed terms are a plan of their own. Those that are called on most first."""
    sums = (
        rows.order_by().values("plan", "currency").annotate(calls=Sum("calls"), units=Sum("units"), sum=Sum("amount"))
    )
    grouped: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sums:
        grouped[row["plan"]].append(row)
    plans = Plan.objects.in_bulk([plan for plan in grouped if plan is not None])
    figures = [
        PlanFigures(
            plans.get(plan),
            plans[plan].unit if plan else MeteredUnit.CALL,
            sum(row["calls"] for row in found),
            sum((row["units"] for row in found), Decimal(0)),
            _amounts(found),
        )
        for plan, found in grouped.items()
    ]
    return sorted(figures, key=lambda each: (-each.calls, str(each.plan and each.plan.pk)))


def _grouped(rows: "QuerySet[DailyUsage]", key: str) -> dict[Any, Figures]:
    grouped: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows.order_by().values(key, "currency").annotate(calls=Sum("calls"), sum=Sum("amount")):
        grouped[row[key]].append(row)
    return {each: Figures(sum(row["calls"] for row in found), _amounts(found)) for each, found in grouped.items()}


def _amounts(rows: Iterable[Mapping[str, Any]]) -> Amounts:
    """Only those in which there is any."""
    return {row["currency"]: row["sum"] for row in sorted(rows, key=lambda row: row["currency"]) if row["sum"]}
