"""What a tenant has subscribed to and used."""

import re
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from marketplace.metering.budgets import current_spending, in_force
from marketplace.metering.models import Budget, Spending
from marketplace.publishing.plans import take_back_plan, update_plan
from tests import factories
from tests.frontend.conftest import Marketplace, words


@pytest.mark.parametrize("who", ["owner", "colleague"])
def test_members_see_their_tenants_subscriptions_and_calls(marketplace: Marketplace, who: str) -> None:
    page = words(getattr(marketplace, who).client.get("/usage/"))

    assert "Digits openlab/digits Scale Free Used 0 In flight 0 Left 1,000 Limit 1,000 calls Starts anew" in page
    assert re.search(r"openlab/digits v1 .* Succeeded 1 call 2\.5 ms", page)


def test_others_see_their_own(marketplace: Marketplace) -> None:
    page = words(marketplace.stranger.client.get("/usage/"))

    assert "No subscriptions yet." in page
    assert "No calls yet." in page
    assert "Acme" not in page


def test_a_viewer_has_no_button_to_cancel(marketplace: Marketplace) -> None:
    assert "Cancel subscription" in words(marketplace.owner.client.get("/usage/"))
    assert "Cancel subscription" not in words(marketplace.colleague.client.get("/usage/"))


def test_cancelling_from_here(marketplace: Marketplace) -> None:
    browser = marketplace.owner.client
    (found,) = re.findall(r'name="modelSubscription" value="([^"]+)"', browser.get("/usage/").content.decode())

    response = browser.post("/usage/", {"form": "cancel", "modelSubscription": found}, follow=True)

    assert response.redirect_chain == [("/usage/", 302)]
    assert "Scale Free Cancelled" in words(response)


def test_cancelling_a_foreign_one_changes_nothing(marketplace: Marketplace) -> None:
    page = marketplace.owner.client.get("/usage/").content.decode()
    (found,) = re.findall(r'name="modelSubscription" value="([^"]+)"', page)

    response = marketplace.stranger.client.post("/usage/", {"form": "cancel", "modelSubscription": found})

    assert response.status_code == 422
    assert "There is no such object" in words(response)
    marketplace.subscription.refresh_from_db()
    assert marketplace.subscription.status == "ACTIVE"


def test_calls_come_in_pages(marketplace: Marketplace) -> None:
    for _ in range(25):
        factories.hold(marketplace.acme, marketplace.version)
    browser = marketplace.owner.client

    first = browser.get("/usage/").content.decode()
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = browser.get("/usage/" + following.replace("&amp;", "&")).content.decode()

    assert first.count("Succeeded") == 20
    assert second.count("Succeeded") == 6


def test_many_subscriptions_cost_no_more_queries(
    marketplace: Marketplace, django_assert_max_num_queries: object
) -> None:
    browser = marketplace.owner.client
    with django_assert_max_num_queries(20) as few:  # type: ignore[operator]
        browser.get("/usage/")
    for number in range(10):
        model = factories.model(marketplace.openlab)
        factories.version(model)
        factories.subscription(marketplace.acme, factories.plan(model))
        Budget.objects.create(tenant=marketplace.acme, amount=1, currency=f"XA{chr(65 + number)}")

    with django_assert_max_num_queries(len(few)):  # type: ignore[operator]
        browser.get("/usage/")


def test_terms_that_change_are_announced_with_their_day(marketplace: Marketplace) -> None:
    publisher = factories.principal(marketplace.openlab)
    changed = update_plan(publisher, plan_id=marketplace.plan.pk, name="Scale 2", price=Decimal(5))

    for page in ("/usage/", "/models/openlab/digits/"):
        said = words(marketplace.owner.client.get(page))
        assert re.search(r"New terms from .* · Scale 2, \$5 a month, 1,000 calls a month, then refused", said)
    take_back_plan(publisher, plan_id=changed.pk)
    assert "New terms" not in words(marketplace.owner.client.get("/usage/"))


def test_what_is_counted_is_said(marketplace: Marketplace) -> None:
    marketplace.plan.unit = "SECOND"
    marketplace.plan.overage_price = Decimal("0.25")
    marketplace.plan.save()

    page = words(marketplace.owner.client.get("/usage/"))

    assert "Included 1,000 seconds of compute Past what is included: $0.25 per second of compute." in page


@pytest.mark.parametrize("who", ["owner", "colleague"])
def test_members_see_the_cap_and_what_this_month_has_cost(marketplace: Marketplace, who: str) -> None:
    month = Budget.objects.annotate(**current_spending()).get(pk=marketplace.cap.pk)
    Spending.objects.create(
        budget=marketplace.cap,
        period_start=month.spending_start,
        period_end=month.spending_end,
        limit=10,
        settled=Decimal("2.5"),
        held=1,
    )

    response = getattr(marketplace, who).client.get("/usage/")

    assert "Spent $2.50 In flight $1 Left $6.50 Cap $10 a month Starts anew" in words(response)
    bar = re.findall(r'<rect class="(?:settled|held)"[^>]* width="([\d.]+)"', response.content.decode())
    assert bar[-2:] == ["25.000", "10.000"]


def test_without_a_cap_the_page_says_so_and_who_can_set_one(marketplace: Marketplace) -> None:
    marketplace.cap.delete()

    owner = words(marketplace.owner.client.get("/usage/"))
    viewer = words(marketplace.colleague.client.get("/usage/"))

    assert "Set cap No cap is set: calls past included units cost what they cost" in owner
    assert "No cap is set. An owner, an administrator or whoever handles billing can set one." in viewer
    assert "Set cap" not in viewer


def set_cap(browser: Client, **fields: str) -> Any:
    return browser.post("/usage/", {"form": "cap", "amount": "25", "currency": "USD"} | fields, follow=True)


def test_setting_the_cap(marketplace: Marketplace) -> None:
    response = set_cap(marketplace.owner.client, amount=" 7.50 ", currency="eur")

    assert response.redirect_chain == [("/usage/", 302)]
    assert "The spending cap is set. It holds from the next call on." in words(response)
    assert "Cap 7.50 EUR a month" in words(response)
    assert "Cap $10 a month" in words(response)


def test_what_is_wrong_with_a_cap_is_said_at_its_field_and_what_was_typed_stays(marketplace: Marketplace) -> None:
    response = set_cap(marketplace.owner.client, amount="-3", currency="euro")
    page = response.content.decode()
    amount = set_cap(marketplace.owner.client, amount="-3").content.decode()

    assert response.status_code == 422
    assert re.search(r'id="cap-currency-problem">A currency is three capital letters', page)
    assert re.search(r'name="currency"[^>]* value="euro"[^>]* aria-describedby="cap-currency-problem"', page)
    assert re.search(r'id="cap-amount-problem">Ensure this value is greater than or equal to 0', amount)
    assert re.search(r'name="amount"[^>]* value="-3" aria-invalid="true"', amount)
    assert Budget.objects.get(api_key=None) == marketplace.cap


def test_an_amount_that_is_no_number_is_refused(marketplace: Marketplace) -> None:
    assert set_cap(marketplace.owner.client, amount="plenty").status_code == 400
    assert set_cap(marketplace.owner.client, amount="").status_code == 400


def test_removing_the_cap(marketplace: Marketplace) -> None:
    response = marketplace.owner.client.post("/usage/", {"form": "remove_cap", "currency": "USD"}, follow=True)

    assert "The spending cap is removed." in words(response)
    assert not in_force(Budget.objects.filter(api_key=None)).exists()
    assert "Remove cap" not in words(response)


def test_a_viewer_neither_sets_nor_removes_it(marketplace: Marketplace) -> None:
    browser = marketplace.colleague.client

    responses = [set_cap(browser), browser.post("/usage/", {"form": "remove_cap", "currency": "USD"})]

    assert [response.status_code for response in responses] == [422, 422]
    assert all("Your role may not set spending limits here." in words(response) for response in responses)
    assert "Remove cap" not in words(browser.get("/usage/"))
    assert Budget.objects.get(api_key=None).amount == 10


def test_a_stranger_removes_only_their_own(marketplace: Marketplace) -> None:
    response = marketplace.stranger.client.post("/usage/", {"form": "remove_cap", "currency": "USD"})

    assert response.status_code == 422
    assert "There is no such object" in words(response)
    assert Budget.objects.filter(pk=marketplace.cap.pk).exists()
