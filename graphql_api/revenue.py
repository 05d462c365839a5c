"""What a publisher's models were used for, and what that brought: by day, plan, tenant and model."""

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
import strawberry_django
from django.db.models import QuerySet

from inference.usage import counted_until
from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.subscriptions import usage
from marketplace.subscriptions.models import DailyUsage, MeteredUnit
from marketplace.tenants.models import Tenant

from .context import Info
from .money import Money
from .scalars import BigInt

if TYPE_CHECKING:
    from .catalog import Model
    from .subscriptions import Plan

REVENUE = "For what went past included units, in each currency in which there was any; refunds are taken off."


def _money(revenue: usage.Amounts) -> list[Money]:
    return [Money(amount=amount, currency=currency) for currency, amount in revenue.items()]


@strawberry.type
class DayUsage:
    day: date
    calls: BigInt
    revenue: list[Money] = strawberry.field(description=REVENUE)


@strawberry.type(description="Terms that have changed are a plan of their own.")
class PlanUsage:
    plan: Annotated["Plan", strawberry.lazy(".subscriptions")] | None = strawberry.field(
        description="Null: the publisher's own calls."
    )
    calls: BigInt
    unit: MeteredUnit
    units: Decimal
    revenue: list[Money] = strawberry.field(description=REVENUE)


@strawberry.type
class TenantUsage:
    tenant_slug: str
    tenant_name: str
    calls: BigInt
    revenue: list[Money] = strawberry.field(description=REVENUE)


@strawberry.type
class ModelUsage:
    model: Annotated["Model", strawberry.lazy(".catalog")]
    calls: BigInt
    revenue: list[Money] = strawberry.field(description=REVENUE)


@strawberry.type(description="Delivered calls and their revenue. Days are UTC's; a refund counts on its own day.")
class Usage:
    rows: strawberry.Private["QuerySet[DailyUsage]"]
    first: strawberry.Private[date]
    last: strawberry.Private[date]

    @strawberry_django.field(description="Each from the first to the last, also those without a call.")
    def days(self) -> list[DayUsage]:
        found = usage.by_day(self.rows, self.first, self.last)
        return [
            DayUsage(day=day, calls=BigInt(figures.calls), revenue=_money(figures.revenue))
            for day, figures in found.items()
        ]

    @strawberry_django.field(description="Those that are called on most first.")
    def plans(self) -> list[PlanUsage]:
        return [
            PlanUsage(
                plan=each.plan,  # type: ignore[arg-type]  # the row is what the type resolves from
                calls=BigInt(each.calls),
                unit=MeteredUnit(each.unit),
                units=each.units,
                revenue=_money(each.revenue),
            )
            for each in usage.by_plan(self.rows)
        ]

    @strawberry_django.field(description=f"Those that call most, at most {usage.MOST_TENANTS}.")
    def tenants(self) -> list[TenantUsage]:
        found = usage.by_tenant(self.rows)
        tenants = Tenant.objects.in_bulk(list(found))
        return [
            TenantUsage(
                tenant_slug=tenants[key].slug,
                tenant_name=tenants[key].name,
                calls=BigInt(figures.calls),
                revenue=_money(figures.revenue),
            )
            for key, figures in found.items()
        ]

    @strawberry_django.field(description="Those that are called most first.")
    def models(self) -> list[ModelUsage]:
        found = usage.by_model(self.rows)
        models = MLModel.objects.select_related("publisher").in_bulk(list(found))
        return [
            ModelUsage(
                model=models[key],  # type: ignore[arg-type]  # as above
                calls=BigInt(figures.calls),
                revenue=_money(figures.revenue),
            )
            for key, figures in found.items()
        ]

    @strawberry_django.field(description="Until when everything is counted; null before the first count.")
    def counted_until(self) -> datetime | None:
        return counted_until()


FROM = strawberry.argument(name="from", description="The first day, UTC.")
TO = strawberry.argument(name="to", description=f"The last day, UTC: at most {usage.MOST_DAYS} days in all.")
DESCRIPTION = "For the publisher's own members who publish, or look after money: null for everybody else."


def usage_of(principal: Principal, first: date, last: date, **which: Any) -> Usage | None:
    """None for who does not publish what `which` names."""
    if which.get("model__publisher_id") != principal.tenant_id or not usage.may_see(principal):
        return None
    rows = usage.between(usage.of_publisher(principal).filter(**which), first, last)
    return Usage(rows=rows, first=first, last=last)


def model_usage(self: Any, info: Info, first: Annotated[date, FROM], last: Annotated[date, TO]) -> Usage | None:
    return usage_of(info.context.principal, first, last, model=self.pk, model__publisher_id=self.publisher_id)


def publisher_usage(self: Any, info: Info, first: Annotated[date, FROM], last: Annotated[date, TO]) -> Usage | None:
    return usage_of(info.context.principal, first, last, model__publisher_id=self.pk)
