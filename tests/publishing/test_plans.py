"""Offering plans, changing them, hiding them."""

from decimal import Decimal

import pytest

from marketplace.access import ANONYMOUS, TenantRole
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing import plans
from marketplace.publishing.plans import create_plan, hide_plan, take_back_plan, update_plan
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
        ({"name": "Fr\u202eee"}, "input.name"),
        ({"name": "\u200b"}, "input.name"),
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


def test_changed_terms_are_a_row_of_their_own_and_alone_on_offer(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    changed = update_plan(owner, plan_id=plan.pk, name="Start", price=Decimal(5))

    plan.refresh_from_db()
    assert (plan.name, plan.terms) == ("Free", TERMS)
    assert (changed.name, changed.terms) == ("Start", TERMS | {"price": Decimal(5)})
    assert (plan.successor, plan.line) == (changed, changed.line)
    assert list(model.plans.on_offer()) == list(Plan.objects.visible_to(ANONYMOUS)) == [changed]


def test_what_is_not_named_stays_as_it_is_and_a_new_name_alone_changes_no_terms(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    assert update_plan(owner, plan_id=plan.pk, name="Start", burst=20) == plan
    assert update_plan(owner, plan_id=plan.pk, burst=21).terms == TERMS | {"burst": 21}
    assert [each.name for each in Plan.objects.order_by("created_at")] == ["Start", "Start"]


@pytest.mark.parametrize(
    "change",
    [{"included_units": Decimal(10)}, {"unit": "CALL"}, {"max_concurrency": None}, {"currency": "USD"}],
    ids=lambda change: next(iter(change)),
)
def test_who_is_on_a_plan_stays_on_its_terms_and_who_subscribes_then_is_on_the_changed_ones(owner, model, change):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    before = factories.subscription(factories.tenant(), plan)
    changed = update_plan(owner, plan_id=plan.pk, **change)

    after = factories.principal(factories.tenant())
    with pytest.raises(NotFound):
        subscribe(after, model_ref="openlab/digits", plan_id=plan.pk)
    assert subscribe(after, model_ref="openlab/digits", plan_id=changed.pk).plan == changed
    before.refresh_from_db()
    assert before.plan == plan


def test_only_the_latest_terms_change_and_hide(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    update_plan(owner, plan_id=plan.pk, burst=1)
    for act in (
        lambda: update_plan(owner, plan_id=plan.pk, burst=2),
        lambda: take_back_plan(owner, plan_id=plan.pk),
        lambda: hide_plan(owner, plan_id=plan.pk),
    ):
        with pytest.raises(ValidationProblem, match="have changed since") as refused:
            act()
        assert refused.value.path == "input.plan"


def test_a_change_is_taken_back_by_one_more_change(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    changed = update_plan(owner, plan_id=plan.pk, name="Start", burst=1)
    back = take_back_plan(owner, plan_id=changed.pk)

    changed.refresh_from_db()
    assert (back.name, back.terms, changed.successor) == ("Free", TERMS, back)
    assert list(model.plans.on_offer()) == [back]


def test_there_is_nothing_to_take_back_of_a_plan_that_never_changed(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    with pytest.raises(ValidationProblem, match="never changed"):
        take_back_plan(owner, plan_id=plan.pk)


def test_a_hidden_plan_stays_hidden_when_it_changes(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    hide_plan(owner, plan_id=plan.pk)
    changed = update_plan(owner, plan_id=plan.pk, burst=1)
    assert not model.plans.on_offer()
    hide_plan(owner, plan_id=changed.pk, hidden=False)
    assert list(model.plans.on_offer()) == [changed]


def test_a_publisher_changes_plans_often_but_not_endlessly(owner, model, monkeypatch):
    monkeypatch.setattr(plans, "MOST_CHANGES", 2)
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    for burst in (1, 2):
        plan = update_plan(owner, plan_id=plan.pk, burst=burst)
    with pytest.raises(ValidationProblem, match="at most 2 times"):
        update_plan(owner, plan_id=plan.pk, burst=3)


def test_who_was_on_the_plan_sees_what_became_of_it_and_others_do_not(owner, model):
    plan = create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    subscriber, stranger = factories.tenant(), factories.tenant()
    factories.subscription(subscriber, plan)
    changed = update_plan(owner, plan_id=plan.pk, burst=1)
    hide_plan(owner, plan_id=changed.pk)
    assert set(Plan.objects.visible_to(factories.principal(subscriber))) == {plan, changed}
    assert not Plan.objects.visible_to(factories.principal(stranger))


def test_renaming_to_a_taken_name_is_refused(owner, model):
    create_plan(owner, model_ref="openlab/digits", name="Free", **TERMS)
    plan = create_plan(owner, model_ref="openlab/digits", name="Scale", **TERMS)
    for change in ({}, {"burst": 1}):
        with pytest.raises(ValidationProblem, match="of this name already"):
            update_plan(owner, plan_id=plan.pk, name="Free", **change)
    plan.refresh_from_db()
    assert plan.successor is None


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
        take_back_plan(other, plan_id=plan.pk)
    with pytest.raises(NotFound):
        hide_plan(other, plan_id=plan.pk)


def test_billing_does_not_set_prices(owner, model):
    billing = factories.principal(model.publisher, TenantRole.BILLING)
    with pytest.raises(PermissionDenied):
        create_plan(billing, model_ref="openlab/digits", name="Free", **TERMS)
