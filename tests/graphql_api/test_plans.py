"""Plans whose terms change, as publishers and subscribers meet them in GraphQL."""

from typing import Any

import pytest

from graphql_api.nodes import global_id
from marketplace.metering import tasks
from marketplace.subscriptions.models import ModelSubscription, Plan
from tests import factories
from tests.graphql_api.conftest import Marketplace

UPDATE = """mutation ($input: UpdatePlanInput!) {
  updatePlan(input: $input) {
    plan { id name burst overagePrice { amount currency } maxConcurrency }
    errors { message path }
  }
}"""
CONTRACT = """{ model(ref: "openlab/digits") { viewerSubscription {
  plan { id burst } nextPlan { id burst } nextPlanFrom quota { periodEnd limit }
} } }"""


def updated(marketplace: Marketplace, **changes: Any) -> Any:
    given = {"plan": global_id("Plan", marketplace.plan.pk)} | changes
    return marketplace.publisher.ask(UPDATE, input=given)["data"]["updatePlan"]


def contract(marketplace: Marketplace) -> Any:
    return marketplace.owner.ask(CONTRACT)["data"]["model"]["viewerSubscription"]


def test_what_is_left_out_stays_and_null_takes_a_bound_away(marketplace: Marketplace) -> None:
    Plan.objects.filter(pk=marketplace.plan.pk).update(overage_price=1, max_concurrency=3)

    first = updated(marketplace, burst=7)["plan"]
    second = updated(marketplace, plan=first["id"], overagePrice=None, maxConcurrency=None)["plan"]

    assert (first["burst"], first["overagePrice"], first["maxConcurrency"]) == (
        7,
        {"amount": "1", "currency": "USD"},
        3,
    )
    assert (second["burst"], second["overagePrice"], second["maxConcurrency"]) == (7, None, None)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"overagePrice": {"amount": "1"}}, "input.price"),
        ({"overagePrice": {"amount": "1"}, "price": {"amount": "1", "currency": "EUR"}}, "input.overagePrice.currency"),
        ({"burst": 0}, "input.burst"),
        ({"name": ""}, "input.name"),
        ({"unit": "TOKEN"}, "input.maxTokensPerCall"),
    ],
    ids=["overage alone", "two currencies", "burst", "name", "tokens without a most"],
)
def test_what_is_wrong_is_named(marketplace: Marketplace, change: dict[str, Any], path: str) -> None:
    answer = updated(marketplace, **change)

    assert (answer["plan"], [error["path"] for error in answer["errors"]]) == (None, [path])


def test_a_subscriber_sees_the_terms_of_now_and_the_next_ones_with_their_day(marketplace: Marketplace) -> None:
    before = contract(marketplace)
    plan = updated(marketplace, burst=7, includedUnits="5")["plan"]
    mine = contract(marketplace)

    assert (before["nextPlan"], before["nextPlanFrom"]) == (None, None)
    assert mine["plan"] == before["plan"]
    assert mine["nextPlan"] == {"id": plan["id"], "burst": 7}
    assert mine["nextPlanFrom"] == mine["quota"]["periodEnd"]
    assert mine["quota"]["limit"] == "1000"


def test_a_change_that_was_taken_back_is_announced_to_nobody(marketplace: Marketplace) -> None:
    plan = updated(marketplace, burst=7)["plan"]
    taken_back = marketplace.publisher.ask(
        "mutation ($id: ID!) { takeBackPlan(input: {plan: $id}) { plan { burst } errors { message } } }", id=plan["id"]
    )

    assert taken_back["data"]["takeBackPlan"] == {"plan": {"burst": 1000}, "errors": []}
    assert (contract(marketplace)["nextPlan"], contract(marketplace)["nextPlanFrom"]) == (None, None)


def test_once_the_period_has_begun_its_terms_are_the_changed_ones_moved_or_not(marketplace: Marketplace) -> None:
    plan = updated(marketplace, burst=7, includedUnits="5")["plan"]
    Plan.objects.filter(pk=marketplace.plan.pk).update(successor_from=factories.timezone.now().replace(year=2020))
    ModelSubscription.objects.filter(pk=marketplace.subscription.pk).update(
        created_at=factories.timezone.now().replace(year=2021, day=1)
    )
    mine = contract(marketplace)

    assert (mine["plan"], mine["nextPlan"], mine["quota"]["limit"]) == ({"id": plan["id"], "burst": 7}, None, "5")
    tasks.move_contracts()
    assert contract(marketplace) == mine


def test_a_plan_that_was_hidden_is_on_offer_again(marketplace: Marketplace) -> None:
    document = """mutation ($id: ID!, $hidden: Boolean!) {
      hidePlan(input: {plan: $id, hidden: $hidden}) { plan { id } errors { message } }
    }"""
    offered = '{ model(ref: "openlab/digits") { plans { id } } }'

    for hidden, count in ((True, 0), (False, 1)):
        marketplace.publisher.ask(document, id=global_id("Plan", marketplace.plan.pk), hidden=hidden)
        assert len(marketplace.anonymous.ask(offered)["data"]["model"]["plans"]) == count
