"""What a tenant has subscribed to and used."""

import re

import pytest

from tests import factories
from tests.frontend.conftest import Marketplace, words


@pytest.mark.parametrize("who", ["owner", "colleague"])
def test_members_see_their_tenants_subscriptions_and_calls(marketplace: Marketplace, who: str) -> None:
    page = words(getattr(marketplace, who).client.get("/usage/"))

    assert "Digits openlab/digits Scale Free Used 0 In flight 0 Left 1,000 Limit 1,000 Starts anew" in page
    assert re.search(r"openlab/digits v1 .* Succeeded 1 2\.5 ms", page)


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
    for _ in range(10):
        model = factories.model(marketplace.openlab)
        factories.version(model)
        factories.subscription(marketplace.acme, factories.plan(model))

    with django_assert_max_num_queries(len(few)):  # type: ignore[operator]
        browser.get("/usage/")
