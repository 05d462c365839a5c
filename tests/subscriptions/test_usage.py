"""Figures of a publisher's models, summed from rows of days."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from marketplace.access import TenantRole
from marketplace.errors import ValidationProblem
from marketplace.subscriptions import usage
from marketplace.subscriptions.models import DailyUsage
from tests import factories

pytestmark = pytest.mark.django_db

MONDAY = date(2026, 3, 2)


class House:
    def __init__(self) -> None:
        self.openlab = factories.tenant("openlab", is_publisher=True)
        self.acme, self.globex = factories.tenant("acme"), factories.tenant("globex")
        self.digits, self.letters = factories.model(self.openlab, "digits"), factories.model(self.openlab, "letters")
        self.plan = factories.plan(self.digits, unit="SECOND")
        self.day(0, tenant=self.acme, calls=3, units=Decimal("4.5"), amount=Decimal("0.5"))
        self.day(0, tenant=self.globex, calls=5)
        self.day(2, tenant=self.acme, calls=1, amount=2, currency="EUR")
        self.day(2, tenant=self.openlab, model=self.letters, plan=None, calls=7)
        other = factories.model(factories.tenant(is_publisher=True))
        self.day(0, tenant=self.acme, model=other, plan=None, calls=100)

    def day(self, after: int, **fields: Any) -> None:
        given = {"model": self.digits, "plan": self.plan, "calls": 1, "units": 1, "amount": 0, "currency": "USD"}
        DailyUsage.objects.create(**given | fields, day=MONDAY + timedelta(days=after))

    def rows(self, role: TenantRole = TenantRole.OWNER) -> Any:
        return usage.of_publisher(factories.principal(self.openlab, role))


@pytest.fixture
def house() -> House:
    return House()


def test_every_day_is_there_and_sums_what_was_called_on_it(house: House) -> None:
    days = usage.by_day(house.rows(), MONDAY, MONDAY + timedelta(days=2))

    assert [(figures.calls, figures.revenue) for figures in days.values()] == [
        (8, {"USD": Decimal("0.5")}),
        (0, {}),
        (8, {"EUR": Decimal(2)}),
    ]


def test_tenants_models_and_plans_come_with_the_busiest_first(house: House) -> None:
    rows = house.rows()

    assert [(tenant, figures.calls) for tenant, figures in usage.by_tenant(rows).items()] == [
        (house.openlab.pk, 7),
        (house.globex.pk, 5),
        (house.acme.pk, 4),
    ]
    assert [(model, figures.calls) for model, figures in usage.by_model(rows).items()] == [
        (house.digits.pk, 9),
        (house.letters.pk, 7),
    ]
    assert [(each.plan, each.unit, each.calls, each.units) for each in usage.by_plan(rows)] == [
        (house.plan, "SECOND", 9, Decimal("6.5")),
        (None, "CALL", 7, 1),
    ]


def test_only_the_busiest_tenants_are_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_TENANTS", 2)

    assert list(usage.by_tenant(house.rows())) == [house.openlab.pk, house.globex.pk]


@pytest.mark.parametrize("days", [-1, 366, 10**5])
def test_a_span_has_one_to_366_days(house: House, days: int) -> None:
    with pytest.raises(ValidationProblem) as refused:
        usage.between(house.rows(), MONDAY, MONDAY + timedelta(days=days))
    assert refused.value.path == "to"
    assert usage.between(house.rows(), MONDAY, MONDAY + timedelta(days=365))


@pytest.mark.parametrize(
    ("role", "sees"),
    [("OWNER", True), ("ADMIN", True), ("DEVELOPER", True), ("BILLING", True), ("VIEWER", False)],
)
def test_who_publishes_or_looks_after_money_sees_them(house: House, role: str, sees: bool) -> None:
    assert house.rows(TenantRole(role)).exists() == sees
