"""Subscribing, changing plan, cancelling, and the quota that comes with it."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from graphql_api.nodes import global_id
from marketplace.access import TenantRole
from marketplace.metering.models import Quota
from marketplace.subscriptions.models import ModelSubscription
from tests import factories
from tests.graphql_api.caller import Caller, nodes
from tests.graphql_api.conftest import Marketplace

SUBSCRIBE = """
mutation ($model: String!, $plan: ID!) {
  subscribeToModel(input: {model: $model, plan: $plan}) {
    modelSubscription { id status model { ref viewerSubscription { status } } plan { name } quota { limit remaining } }
    errors { __typename code message path }
  }
}"""

CANCEL = """
mutation ($id: ID!) {
  cancelModelSubscription(input: {modelSubscription: $id}) {
    modelSubscription { id status } errors { __typename code path }
  }
}"""

MINE = """
{ viewer { tenant { modelSubscriptions { totalCount edges { node {
  status model { ref } plan { name } quota { periodStart periodEnd limit settled held remaining }
} } } } } }"""


def plan_id(marketplace: Marketplace) -> str:
    return global_id("Plan", marketplace.plan.pk)


def test_subscribing_opens_the_plans_quota(marketplace: Marketplace) -> None:
    answer = marketplace.stranger.data(SUBSCRIBE, model="openlab/digits", plan=plan_id(marketplace))

    subscription = answer["subscribeToModel"]["modelSubscription"]
    assert answer["subscribeToModel"]["errors"] == []
    assert subscription["status"] == "ACTIVE"
    assert subscription["model"] == {"ref": "openlab/digits", "viewerSubscription": {"status": "ACTIVE"}}
    assert subscription["quota"] == {"limit": "1000", "remaining": "1000"}


def test_subscribing_again_is_a_change_of_plan(marketplace: Marketplace) -> None:
    small = factories.plan(marketplace.model, name="Small", included_units=5)

    answer = marketplace.owner.data(SUBSCRIBE, model="openlab/digits", plan=global_id("Plan", small.pk))

    subscription = answer["subscribeToModel"]["modelSubscription"]
    assert (subscription["plan"]["name"], subscription["quota"]["limit"]) == ("Small", "5")
    assert ModelSubscription.objects.count() == 1


def test_a_cancelled_subscription_may_be_taken_up_again(marketplace: Marketplace) -> None:
    identifier = global_id("ModelSubscription", marketplace.subscription.pk)

    cancelled = marketplace.owner.data(CANCEL, id=identifier)["cancelModelSubscription"]
    again = marketplace.owner.data(SUBSCRIBE, model="openlab/digits", plan=plan_id(marketplace))["subscribeToModel"]

    assert cancelled == {"modelSubscription": {"id": identifier, "status": "CANCELLED"}, "errors": []}
    assert (again["modelSubscription"]["id"], again["modelSubscription"]["status"]) == (identifier, "ACTIVE")


def test_a_cancelled_subscription_is_no_longer_the_viewers(marketplace: Marketplace) -> None:
    document = '{ model(ref: "openlab/digits") { viewerSubscription { status } } }'
    assert marketplace.owner.data(document)["model"]["viewerSubscription"] == {"status": "ACTIVE"}

    marketplace.owner.data(CANCEL, id=global_id("ModelSubscription", marketplace.subscription.pk))

    assert marketplace.owner.data(document)["model"]["viewerSubscription"] is None


@pytest.mark.parametrize(
    ("model", "plan", "path"),
    [
        ("openlab/nothing", "plan", "input.model"),
        ("openlab", "plan", "input.model"),
        ("openlab/digits", "secret_plan", "input.plan"),
    ],
)
def test_what_cannot_be_subscribed_to_is_not_found(marketplace: Marketplace, model: str, plan: str, path: str) -> None:
    answer = marketplace.owner.data(SUBSCRIBE, model=model, plan=global_id("Plan", getattr(marketplace, plan).pk))

    assert answer["subscribeToModel"]["modelSubscription"] is None
    assert [(error["__typename"], error["path"]) for error in answer["subscribeToModel"]["errors"]] == [
        ("NotFound", path)
    ]


def test_billing_subscribes_and_developers_do_not(marketplace: Marketplace) -> None:
    billing = Caller(user=factories.member(marketplace.globex, TenantRole.BILLING))
    developer = Caller(user=factories.member(marketplace.globex, TenantRole.DEVELOPER))

    refused = developer.data(SUBSCRIBE, model="openlab/digits", plan=plan_id(marketplace))["subscribeToModel"]
    done = billing.data(SUBSCRIBE, model="openlab/digits", plan=plan_id(marketplace))["subscribeToModel"]

    assert [error["__typename"] for error in refused["errors"]] == ["PermissionDenied"]
    assert done["modelSubscription"]["status"] == "ACTIVE"


def test_a_quota_is_limit_settled_held_and_what_remains(marketplace: Marketplace) -> None:
    Quota.objects.create(
        model_subscription=marketplace.subscription,
        period_start=marketplace.subscription.created_at,
        period_end=datetime(2100, 1, 1, tzinfo=UTC),
        limit=Decimal(1000),
        settled=Decimal("12.5"),
        held=Decimal(3),
    )

    (subscription,) = nodes(marketplace.owner.data(MINE)["viewer"]["tenant"]["modelSubscriptions"])

    quota = subscription["quota"]
    assert {key: quota[key] for key in ("limit", "settled", "held", "remaining")} == {
        "limit": "1000",
        "settled": "12.5",
        "held": "3",
        "remaining": "984.5",
    }


def test_before_the_first_call_of_a_period_the_quota_is_whole(marketplace: Marketplace) -> None:
    marketplace.subscription.created_at = datetime(2020, 1, 31, 12, tzinfo=UTC)
    marketplace.subscription.save()
    Quota.objects.create(
        model_subscription=marketplace.subscription,
        period_start=datetime(2020, 1, 31, 12, tzinfo=UTC),
        period_end=datetime(2020, 2, 29, 12, tzinfo=UTC),
        limit=Decimal(1000),
        settled=Decimal(999),
    )

    (subscription,) = nodes(marketplace.owner.data(MINE)["viewer"]["tenant"]["modelSubscriptions"])

    quota = subscription["quota"]
    start, end = (datetime.fromisoformat(quota[key]) for key in ("periodStart", "periodEnd"))
    assert start <= datetime.now(UTC) < end
    assert (quota["settled"], quota["remaining"]) == ("0", "1000")


def test_a_smaller_plan_takes_back_nothing_that_is_used(marketplace: Marketplace) -> None:
    Quota.objects.create(
        model_subscription=marketplace.subscription,
        period_start=marketplace.subscription.created_at,
        period_end=datetime(2100, 1, 1, tzinfo=UTC),
        limit=Decimal(1000),
        settled=Decimal(100),
    )
    small = factories.plan(marketplace.model, included_units=10)

    answer = marketplace.owner.data(SUBSCRIBE, model="openlab/digits", plan=global_id("Plan", small.pk))

    assert answer["subscribeToModel"]["modelSubscription"]["quota"] == {"limit": "100", "remaining": "0"}


def test_a_contract_still_names_its_model_when_the_access_is_withdrawn(marketplace: Marketplace) -> None:
    factories.subscription(marketplace.acme, marketplace.secret_plan, status="SUSPENDED")
    marketplace.secret.grants.all().delete()

    subscriptions = nodes(marketplace.owner.data(MINE)["viewer"]["tenant"]["modelSubscriptions"])

    assert [(row["model"]["ref"], row["status"]) for row in subscriptions] == [
        ("openlab/secret", "SUSPENDED"),
        ("openlab/digits", "ACTIVE"),
    ]
