"""How many statements an answer takes: as many for twenty rows as for one."""

import pytest

from marketplace.access import TenantRole
from marketplace.metering.models import Budget
from marketplace.tenants.models import Tenant
from tests import factories
from tests.graphql_api.caller import Caller

EXPLORE = """
{
  models(first: 50) {
    totalCount
    edges { node {
      id ref displayName summary task tags license subscriberCount publisher { name slug }
      liveVersion { number inputs { name datatype shape } outputs { name labels } }
      versions(first: 3) { totalCount edges { node { number inputs { name } } } }
      plans { name price { amount currency } unit overagePrice { amount } maxConcurrency }
      viewerSubscription { status plan { name } quota { limit remaining } }
    } }
  }
}"""

USAGE = """
{
  viewer { tenant {
    modelSubscriptions(first: 50) {
      totalCount
      edges { node { status model { ref displayName publisher { name } liveVersion { number } }
        plan { name includedUnits price { amount } } quota { periodStart periodEnd limit settled held remaining } } }
    }
    invocations(first: 50) {
      edges { node { status units latencyMs createdAt model { ref publisher { slug } } version { number } } }
    }
    apiKeys(first: 50) { edges { node { name prefix role budgets { ...Month } } } }
    spendingCaps { ...Month }
  } }
}
fragment Month on Budget {
  amount { amount currency }
  spending { periodStart limit { amount } settled { amount } held { amount } remaining { amount } }
}"""

MODEL = """
{
  model(ref: "openlab/model-0") {
    ref cardHtml versions(first: 50) { edges { node { number inputs { name } outputs { name } } } } plans { name }
  }
}"""

CROOKED = "{ models(first: 50) { edges { node { publisher { slug models(first: 2) { edges { node { ref } } } } } } } }"

NODES = "query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Model { ref plans { name } liveVersion { number } } } }"


def stock(openlab: Tenant, acme: Tenant, first: int, count: int) -> None:
    for number in range(first, first + count):
        model = factories.model(openlab, f"model-{number}")
        for _ in range(2):
            version = factories.version(model, status="READY")
        factories.version(model)
        plan = factories.plan(model)
        factories.plan(model)
        factories.subscription(acme, plan)
        factories.hold(acme, version)
        Budget.objects.create(tenant=acme, api_key=factories.api_key_row(acme), amount=1, currency="USD")
        Budget.objects.create(tenant=acme, amount=1, currency=f"X{chr(65 + number // 26)}{chr(65 + number % 26)}")


@pytest.fixture
def tenants(db: None) -> tuple[Tenant, Tenant]:
    return factories.tenant("openlab", is_publisher=True), factories.tenant("acme")


@pytest.fixture
def alice(tenants: tuple[Tenant, Tenant]) -> Caller:
    return Caller(key=factories.api_key(tenants[1], TenantRole.ADMIN))


@pytest.mark.parametrize(
    ("document", "statements"),
    [
        # models; inputs and outputs of the live versions; versions; their inputs; plans; subscriptions; the count
        pytest.param(EXPLORE, 8, id="explore"),
        # tenant; subscriptions; their count; invocations; keys; their budgets; spending caps
        pytest.param(USAGE, 7, id="usage"),
        # model; versions; inputs; outputs; plans
        pytest.param(MODEL, 5, id="model"),
        # models with their publishers; those publishers' models
        pytest.param(CROOKED, 2, id="publishers of models"),
    ],
)
def test_statements_do_not_grow_with_the_rows(
    tenants: tuple[Tenant, Tenant], alice: Caller, document: str, statements: int
) -> None:
    stock(*tenants, 0, 1)
    one = alice.queries(document)
    stock(*tenants, 1, 19)

    twenty = alice.queries(document)

    assert len(one) == statements, "\n\n".join(one)
    assert len(twenty) == statements, "\n\n".join(twenty)


def test_nodes_of_one_type_are_found_at_once(tenants: tuple[Tenant, Tenant], alice: Caller) -> None:
    stock(*tenants, 0, 20)
    ids = [
        edge["node"]["id"] for edge in alice.data("{ models(first: 50) { edges { node { id } } } }")["models"]["edges"]
    ]

    # models with their publishers and live versions; plans
    assert len(alice.queries(NODES, ids=ids[:1])) == len(alice.queries(NODES, ids=ids)) == 2


def test_what_says_only_who_asks_takes_no_statement_of_its_own(alice: Caller) -> None:
    assert alice.queries("{ viewer { role permissions } }") == []
