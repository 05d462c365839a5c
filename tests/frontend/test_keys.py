"""API keys: made, shown once, revoked."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from marketplace.access import TenantRole
from marketplace.metering.budgets import current_spending, in_force
from marketplace.metering.models import Budget, Spending
from marketplace.tenants.authentication import principal_from_key
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.frontend.conftest import Marketplace, words


def create(browser: Client, **fields: str) -> Any:
    return browser.post("/keys/", {"form": "create", "name": "nightly", "role": "DEVELOPER", "days": "30"} | fields)


def key_id(browser: Client) -> str:
    (found,) = set(re.findall(r'name="apiKey" value="([^"]+)"', browser.get("/keys/").content.decode()))
    return str(found)


def test_members_see_their_tenants_keys_and_others_do_not(marketplace: Marketplace) -> None:
    assert f"production {marketplace.key.prefix}…" in words(marketplace.owner.client.get("/keys/"))
    assert f"production {marketplace.key.prefix}…" in words(marketplace.colleague.client.get("/keys/"))
    assert "production" not in words(marketplace.stranger.client.get("/keys/"))


def test_the_secret_is_shown_once(marketplace: Marketplace) -> None:
    browser = marketplace.stranger.client

    response = create(browser)

    (secret,) = re.findall(r'<code id="secret">([^<]+)</code>', response.content.decode())
    assert principal_from_key(secret).tenant_id == marketplace.globex.pk
    assert response.headers["Cache-Control"] == "no-store"
    assert secret not in browser.get("/keys/").content.decode()


def test_a_key_may_expire(marketplace: Marketplace) -> None:
    create(marketplace.stranger.client, days="90")
    create(marketplace.stranger.client, days="", name="for good")

    expiring, lasting = ApiKey.objects.filter(tenant=marketplace.globex).order_by("id")
    assert expiring.expires_at is not None
    assert (expiring.expires_at - timezone.now()).days in (89, 90)
    assert lasting.expires_at is None


def test_a_problem_stands_at_its_field_and_what_was_typed_stays(marketplace: Marketplace) -> None:
    response = create(marketplace.stranger.client, name="x" * 200, days="365")

    page = response.content.decode()
    assert response.status_code == 422
    assert re.search(r'aria-describedby="name-problem"', page)
    assert re.search(r'id="name-problem">A name has at most 120', page)
    assert f'value="{"x" * 200}"' in page
    assert '<option value="365" selected>' in page
    assert not ApiKey.objects.filter(tenant=marketplace.globex).exists()


def test_a_key_may_do_no_more_than_its_maker(marketplace: Marketplace) -> None:
    browser = Client()
    browser.force_login(factories.member(marketplace.acme, TenantRole.DEVELOPER))

    response = create(browser, role="ADMIN")

    assert response.status_code == 422
    assert re.search(r'id="role-problem">A key may not do more than you may yourself', response.content.decode())


def test_a_viewer_can_only_look(marketplace: Marketplace) -> None:
    page = words(marketplace.colleague.client.get("/keys/"))

    assert "New key" not in page
    assert "Revoke for good" not in page
    refused = create(marketplace.colleague.client)
    assert refused.status_code == 422
    assert not ApiKey.objects.filter(name="nightly").exists()


def test_revoking(marketplace: Marketplace) -> None:
    ApiKey.objects.filter(name="leaked").delete()
    browser = marketplace.owner.client

    response = browser.post("/keys/", {"form": "revoke", "apiKey": key_id(browser)}, follow=True)

    assert "Revoked. The key is refused from now on." in words(response)
    marketplace.key.refresh_from_db()
    assert marketplace.key.revoked_at is not None


def test_a_foreign_key_cannot_be_revoked(marketplace: Marketplace) -> None:
    ApiKey.objects.filter(name="leaked").delete()

    response = marketplace.stranger.client.post(
        "/keys/", {"form": "revoke", "apiKey": key_id(marketplace.owner.client)}
    )

    assert response.status_code == 422
    assert "There is no such object" in words(response)
    marketplace.key.refresh_from_db()
    assert marketplace.key.revoked_at is None


@pytest.mark.parametrize("fields", [{"days": "-1"}, {"days": "x"}, {"role": "GOD"}, {"name": "\0"}])
def test_forged_fields_are_refused_or_ignored(marketplace: Marketplace, fields: dict[str, str]) -> None:
    assert create(marketplace.stranger.client, **fields).status_code in (200, 400, 422)


def budget(browser: Client, **fields: str) -> Any:
    return browser.post("/keys/", {"form": "budget", "amount": "5", "currency": "USD"} | fields, follow=True)


@pytest.fixture
def production(marketplace: Marketplace) -> str:
    """The id of acme's one key in use."""
    return key_id(marketplace.owner.client)


@pytest.mark.parametrize("who", ["owner", "colleague"])
def test_members_see_what_each_key_may_spend_and_has_spent(marketplace: Marketplace, who: str) -> None:
    month = Budget.objects.annotate(**current_spending()).get(pk=marketplace.budget.pk)
    Spending.objects.create(
        budget=marketplace.budget,
        period_start=month.spending_start,
        period_end=month.spending_end,
        limit=1,
        settled=Decimal("0.25"),
    )
    factories.api_key(marketplace.acme, name="free")

    page = words(getattr(marketplace, who).client.get("/keys/"))

    assert "$1 a month $0.25 spent, $0.75 left" in page
    assert re.search(r"free .* None .* production .* \$1 a month", page)


def test_setting_a_key_s_budget(marketplace: Marketplace, production: str) -> None:
    response = budget(marketplace.owner.client, apiKey=production, amount="2.50")

    assert response.redirect_chain == [("/keys/", 302)]
    assert "The key's budget is set. It holds from the next call on." in words(response)
    assert "$2.50 a month $0 spent, $2.50 left" in words(response)


def test_what_is_wrong_with_a_budget_is_said_in_the_key_s_own_form(marketplace: Marketplace, production: str) -> None:
    factories.api_key(marketplace.acme, name="other")

    response = budget(marketplace.owner.client, apiKey=production, amount="-1")
    page = response.content.decode()

    assert response.status_code == 422
    assert page.count("Ensure this value is greater than or equal to 0") == 1
    assert re.search(rf'id="budget-{marketplace.key.prefix}-amount-problem">Ensure', page)
    assert page.count('<details class="confirm" open>') == 1
    assert page.count('value="-1"') == 1


def test_removing_a_key_s_budget(marketplace: Marketplace, production: str) -> None:
    fields = {"form": "remove_budget", "apiKey": production, "currency": "USD"}

    response = marketplace.owner.client.post("/keys/", fields, follow=True)

    assert "The key's budget is removed." in words(response)
    assert not in_force(Budget.objects.filter(api_key=marketplace.key)).exists()
    assert "Remove the budget of" not in response.content.decode()


@pytest.mark.parametrize(("who", "told"), [("colleague", "Your role may not"), ("stranger", "There is no such object")])
def test_whoever_may_not_changes_no_budget(marketplace: Marketplace, production: str, who: str, told: str) -> None:
    browser = getattr(marketplace, who).client
    removal = {"form": "remove_budget", "apiKey": production, "currency": "USD"}

    responses = [budget(browser, apiKey=production), browser.post("/keys/", removal)]

    assert [response.status_code for response in responses] == [422, 422]
    assert all(told in words(response) for response in responses)
    assert "Set budget" not in words(marketplace.colleague.client.get("/keys/"))
    assert Budget.objects.get(api_key=marketplace.key).amount == 1


def test_a_revoked_key_keeps_its_budget_as_it_is(marketplace: Marketplace) -> None:
    ApiKey.objects.update(revoked_at=timezone.now())

    page = words(marketplace.owner.client.get("/keys/"))

    assert "$1 a month" in page
    assert "Set budget" not in page


def test_many_keys_with_budgets_cost_no_more_queries(
    marketplace: Marketplace, django_assert_max_num_queries: Any
) -> None:
    browser = marketplace.owner.client
    with django_assert_max_num_queries(20) as few:
        browser.get("/keys/")
    for _ in range(10):
        key = factories.api_key_row(marketplace.acme)
        Budget.objects.create(tenant=marketplace.acme, api_key=key, amount=1, currency="USD")

    with django_assert_max_num_queries(len(few)):
        browser.get("/keys/")
