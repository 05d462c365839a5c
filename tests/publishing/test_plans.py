"""Offering plans, changing them, hiding them."""

from decimal import Decimal

import pytest

from marketplace.access import TenantRole
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing.plans import create_plan, hide_plan, update_plan
from marketplace.subscriptions.actions import subscribe
from marketplace.subscriptions.models import ModelSubscriptionStatus, Plan
from tests import factories

pytestmark = pytest.mark.django_db

TERMS = {
    "price": Decimal("9.90"),
    "currency": "EUR",
    "included_units": Decimal(1000),
    "overage_price": Decimal("0.01"),
    "requests_per_second": 10,
    "burst": 20,
    "unit": "SECOND",
    "max_concurrency": 4,
    "max_tokens_per_call": None,
}


@pytest.fixture
def owner():
    return factories.principal(factories.tenant("openlab", is_publisher=True))


@pytest.fixture
def model(owner):
    return factories.model(factories.Tenant.objects.get(slug="openlab"), "digits")


def test_a_new_plan_is_on_offer_behind_the_others(owner, model):
    first = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    second = create_plan(owner, model_ref="openlab/digits", name="Scale", **TERMS)
    assert list(model.plans.filter(hidden_at=None)) == [first, second]
    assert {term: getattr(first, term) for term in TERMS} == TERMS


def test_without_an_overage_price_calls_past_the_quota_are_refused(owner, model):
    assert create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS | {"overage_price": None})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": " "}, "input.name"),
        ({"name": "N" * 61}, "input.name"),
        ({"name": "Fr\x00ee"}, "input.name"),
        ({"price": Decimal(-1)}, "input.price.amount"),
        ({"price": Decimal("NaN")}, "input.price.amount"),
        ({"price": Decimal("Infinity")}, "input.price.amount"),
        ({"price": Decimal("1e30")}, "input.price.amount"),
        ({"price": Decimal("1e1000000")}, "input.price.amount"),
        ({"price": Decimal("0.0000000001")}, "input.price.amount"),
        ({"currency": "eur"}, "input.price.currency"),
        ({"currency": "EURO"}, "input.price.currency"),
        ({"currency": "€"}, "input.price.currency"),
        ({"currency": ""}, "input.price.currency"),
        ({"included_units": Decimal(-1)}, "input.includedUnits"),
        ({"included_units": Decimal("NaN")}, "input.includedUnits"),
        ({"included_units": Decimal("1e15") + 1}, "input.includedUnits"),
        ({"included_units": Decimal("0.0000001")}, "input.includedUnits"),
        ({"overage_price": Decimal(-1)}, "input.overagePrice.amount"),
        ({"overage_price": Decimal("sNaN")}, "input.overagePrice.amount"),
        ({"requests_per_second": 0}, "input.requestsPerSecond"),
        ({"requests_per_second": -1}, "input.requestsPerSecond"),
        ({"requests_per_second": 2**31}, "input.requestsPerSecond"),
        ({"burst": 0}, "input.burst"),
        ({"burst": 2**31}, "input.burst"),
        ({"unit": "WORD"}, "input.unit"),
        ({"unit": "TOKEN"}, "input.maxTokensPerCall"),
        ({"unit": "TOKEN", "max_tokens_per_call": 0}, "input.maxTokensPerCall"),
        ({"max_concurrency": 0}, "input.maxConcurrency"),
        ({"max_concurrency": 2**31}, "input.maxConcurrency"),
    ],
)
def test_each_wrong_field_is_named_and_nothing_is_written(owner, model, change, path):
    with pytest.raises(ValidationProblem) as problem:
        create_plan(owner, model_ref="openlab/digits", **{"name": "Free"} | TERMS | change)
    assert problem.value.path == path
    assert not Plan.objects.exists()


def test_a_name_is_taken_once_per_model(owner, model):
    create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    with pytest.raises(ValidationProblem, match="of this name already") as problem:
        create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    assert problem.value.path == "input.name"


def test_a_plan_without_subscribers_may_change(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    update_plan(owner, plan_id=plan.pk, name="Start", **TERMS | {"price": Decimal(5)})
    plan.refresh_from_db()
    assert (plan.name, plan.price) == ("Start", Decimal(5))


@pytest.mark.parametrize(
    "change", [{"included_units": Decimal(10)}, {"unit": "CALL"}, {"max_concurrency": 3}, {"max_concurrency": None}]
)
def test_a_plan_with_subscribers_keeps_its_terms_and_may_be_renamed(owner, model, change):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    factories.subscription(factories.tenant(), plan)
    with pytest.raises(ValidationProblem, match="offer a new one"):
        update_plan(owner, plan_id=plan.pk, name="Free", **TERMS | change)
    assert update_plan(owner, plan_id=plan.pk, name="Start", **TERMS).name == "Start"


def test_a_plan_that_everybody_left_may_change_again(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    factories.subscription(factories.tenant(), plan, status=ModelSubscriptionStatus.CANCELLED)
    assert update_plan(owner, plan_id=plan.pk, name="Free", **TERMS | {"burst": 1}).burst == 1


def test_renaming_to_a_taken_name_is_refused(owner, model):
    create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    plan = create_plan(owner, model_ref="openlab/digits", name="Scale", **TERMS)
    with pytest.raises(ValidationProblem, match="of this name already"):
        update_plan(owner, plan_id=plan.pk, name="Free", **TERMS)


def test_a_hidden_plan_keeps_who_is_on_it_and_takes_nobody_new(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    subscription = factories.subscription(factories.tenant(), plan)
    hide_plan(owner, plan_id=plan.pk)
    subscription.refresh_from_db()
    assert subscription.status == ModelSubscriptionStatus.ACTIVE
    stranger = factories.principal(factories.tenant())
    with pytest.raises(NotFound):
        subscribe(stranger, model_ref="openlab/digits", plan_id=plan.pk)
    hide_plan(owner, plan_id=plan.pk, hidden=False)
    assert subscribe(stranger, model_ref="openlab/digits", plan_id=plan.pk)


def test_another_publisher_finds_neither_model_nor_plan(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    other = factories.principal(factories.tenant(is_publisher=True))
    with pytest.raises(NotFound):
        create_plan(other, model_ref="openlab/digits", name="Mine", **TERMS)
    with pytest.raises(NotFound):
        update_plan(other, plan_id=plan.pk, name="Mine", **TERMS)
    with pytest.raises(NotFound):
        hide_plan(other, plan_id=plan.pk)


def test_billing_does_not_set_prices(owner, model):
    billing = factories.principal(model.publisher, TenantRole.BILLING)
    with pytest.raises(PermissionDenied):
        create_plan(billing, model_ref="openlab/digits", name="Free", **TERMS)
