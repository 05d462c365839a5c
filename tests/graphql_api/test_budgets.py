"""Spending caps and the budgets of keys: set, shown with this month's spending, removed."""

from datetime import datetime
from typing import Any

import pytest

from graphql_api.nodes import global_id
from marketplace.access import TenantRole
from marketplace.metering.budgets import current_spending, in_force
from marketplace.metering.models import Budget, Spending
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.graphql_api.caller import Caller, nodes
from tests.graphql_api.conftest import Marketplace

MONTH = """
fragment Month on Budget {
  amount { amount currency }
  spending {
    periodStart periodEnd limit { amount currency } settled { amount } held { amount } remaining { amount currency }
  }
}"""

CAPS = "{ viewer { tenant { spendingCaps { ...Month } } } }" + MONTH

KEYS = "{ viewer { tenant { apiKeys { edges { node { name budgets { ...Month } } } } } } }" + MONTH

SET_CAP = """
mutation ($input: SetSpendingCapInput!) {
  setSpendingCap(input: $input) {
    tenant { spendingCaps { amount { amount currency } } } errors { __typename code message path }
  }
}"""

REMOVE_CAP = """
mutation ($input: RemoveSpendingCapInput!) {
  removeSpendingCap(input: $input) {
    tenant { spendingCaps { amount { amount currency } } } errors { __typename code path }
  }
}"""

SET_BUDGET = """
mutation ($input: SetApiKeyBudgetInput!) {
  setApiKeyBudget(input: $input) {
    apiKey { name budgets { amount { amount currency } } } errors { __typename code message path }
  }
}"""

REMOVE_BUDGET = """
mutation ($input: RemoveApiKeyBudgetInput!) {
  removeApiKeyBudget(input: $input) {
    apiKey { name budgets { amount { amount currency } } } errors { __typename code path }
  }
}"""

CREATE_KEY = 'mutation { createApiKey(input: {name: "ci"}) { secret errors { __typename message } } }'

OTHERS = "{ viewer { tenants { slug spendingCaps { amount { amount } } } } }"


def amounts(budgets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(budget["amount"]["amount"], budget["amount"]["currency"]) for budget in budgets]


def test_the_cap_with_what_this_month_has_cost(marketplace: Marketplace) -> None:
    now = Budget.objects.annotate(**current_spending()).get(pk=marketplace.cap.pk)
    Spending.objects.create(
        budget=marketplace.cap,
        period_start=now.spending_start,
        period_end=now.spending_end,
        limit=10,
        settled=3,
        held="0.5",
    )

    (cap,) = marketplace.owner.data(CAPS)["viewer"]["tenant"]["spendingCaps"]

    spending = cap.pop("spending")
    assert cap == {"amount": {"amount": "10", "currency": "USD"}}
    assert datetime.fromisoformat(spending.pop("periodStart")) == now.spending_start
    assert datetime.fromisoformat(spending.pop("periodEnd")) == now.spending_end
    assert spending == {
        "limit": {"amount": "10", "currency": "USD"},
        "settled": {"amount": "3"},
        "held": {"amount": "0.5"},
        "remaining": {"amount": "6.5", "currency": "USD"},
    }


def test_each_key_has_its_own(marketplace: Marketplace) -> None:
    factories.api_key(marketplace.acme, name="other")

    keys = {key["name"]: key["budgets"] for key in nodes(marketplace.owner.data(KEYS)["viewer"]["tenant"]["apiKeys"])}

    assert amounts(keys["production"]) == [("1", "USD")]
    assert keys["production"][0]["spending"]["remaining"] == {"amount": "1", "currency": "USD"}
    assert keys["other"] == []


def test_setting_changing_and_removing_the_cap(marketplace: Marketplace) -> None:
    owner = marketplace.owner

    added = owner.data(SET_CAP, input={"amount": "2.50", "currency": "EUR"})["setSpendingCap"]
    changed = owner.data(SET_CAP, input={"amount": "0"})["setSpendingCap"]
    removed = owner.data(REMOVE_CAP, input={"currency": "EUR"})["removeSpendingCap"]

    assert [answer["errors"] for answer in (added, changed, removed)] == [[], [], []]
    assert amounts(added["tenant"]["spendingCaps"]) == [("2.5", "EUR"), ("10", "USD")]
    assert amounts(changed["tenant"]["spendingCaps"]) == [("2.5", "EUR"), ("0", "USD")]
    assert amounts(removed["tenant"]["spendingCaps"]) == [("0", "USD")]


def test_setting_and_removing_a_key_s_budget(marketplace: Marketplace) -> None:
    key = {"apiKey": global_id("ApiKey", marketplace.key.pk)}

    changed = marketplace.owner.data(SET_BUDGET, input=key | {"amount": "7"})["setApiKeyBudget"]
    removed = marketplace.owner.data(REMOVE_BUDGET, input=key)["removeApiKeyBudget"]

    assert (changed["errors"], amounts(changed["apiKey"]["budgets"])) == ([], [("7", "USD")])
    assert removed == {"apiKey": {"name": "production", "budgets": []}, "errors": []}
    assert list(in_force(Budget.objects.all())) == [marketplace.cap]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"amount": "-1"}, "input.amount"),
        ({"amount": "1000000000000000"}, "input.amount"),
        ({"amount": "0.0000000001"}, "input.amount"),
        ({"currency": "euro"}, "input.currency"),
    ],
)
def test_a_wrong_field_is_named(marketplace: Marketplace, change: dict[str, str], path: str) -> None:
    key = {"apiKey": global_id("ApiKey", marketplace.key.pk)}

    cap = marketplace.owner.data(SET_CAP, input={"amount": "5"} | change)["setSpendingCap"]
    budget = marketplace.owner.data(SET_BUDGET, input=key | {"amount": "5"} | change)["setApiKeyBudget"]

    assert (cap["tenant"], budget["apiKey"]) == (None, None)
    assert [(error["__typename"], error["path"]) for error in cap["errors"] + budget["errors"]] == [
        ("ValidationProblem", path)
    ] * 2


def test_a_key_that_has_a_budget_cannot_get_round_it(marketplace: Marketplace) -> None:
    secret = factories.api_key(marketplace.acme, name="agent")
    agent = ApiKey.objects.get(name="agent")
    Budget.objects.create(tenant=marketplace.acme, api_key=agent, amount=1, currency="USD")
    caller, own = Caller(key=secret), {"apiKey": global_id("ApiKey", agent.pk)}

    answers = [
        caller.data(SET_BUDGET, input=own | {"amount": "99"})["setApiKeyBudget"],
        caller.data(REMOVE_BUDGET, input=own)["removeApiKeyBudget"],
        caller.data(SET_CAP, input={"amount": "99"})["setSpendingCap"],
        caller.data(CREATE_KEY)["createApiKey"],
    ]

    assert [[error["__typename"] for error in answer["errors"]] for answer in answers] == [["PermissionDenied"]] * 4
    assert "has a budget" in answers[3]["errors"][0]["message"]
    assert not ApiKey.objects.filter(name="ci").exists()
    assert [budget.amount for budget in Budget.objects.order_by("id")] == [10, 1, 1]


def test_a_key_without_one_makes_keys_as_before(marketplace: Marketplace) -> None:
    caller = Caller(key=factories.api_key(marketplace.acme, name="agent"))

    assert caller.data(CREATE_KEY)["createApiKey"]["errors"] == []


def test_billing_caps_what_is_spent_and_leaves_keys_alone(marketplace: Marketplace) -> None:
    billing = Caller(user=factories.member(marketplace.acme, TenantRole.BILLING))
    key = {"apiKey": global_id("ApiKey", marketplace.key.pk)}

    assert billing.data(SET_CAP, input={"amount": "5"})["setSpendingCap"]["errors"] == []
    (problem,) = billing.data(SET_BUDGET, input=key | {"amount": "5"})["setApiKeyBudget"]["errors"]
    assert problem["__typename"] == "PermissionDenied"


def test_the_caps_of_tenants_not_acted_for_are_not_shown(marketplace: Marketplace) -> None:
    marketplace.alice.memberships.create(tenant=marketplace.globex, role=TenantRole.OWNER)
    Budget.objects.create(tenant=marketplace.globex, amount=5, currency="USD")

    tenants = {tenant["slug"]: tenant["spendingCaps"] for tenant in marketplace.owner.data(OTHERS)["viewer"]["tenants"]}

    assert tenants == {"acme": [{"amount": {"amount": "10"}}], "globex": []}
