"""Finding a model: search, filters, order and pages, with and without JavaScript."""

import re
from typing import Any

import pytest

from tests import factories
from tests.frontend.conftest import Marketplace, words


def titles(response: Any) -> list[str]:
    return re.findall(r'<h3><a href="[^"]+">([^<]+)</a></h3>', response.content.decode())


def test_a_visitor_sees_public_models_and_a_tenant_what_was_granted_to_it(marketplace: Marketplace) -> None:
    assert titles(marketplace.anonymous.client.get("/")) == ["Digits"]
    assert titles(marketplace.stranger.client.get("/")) == ["Digits"]
    assert titles(marketplace.owner.client.get("/")) == ["Digits", "Secret"]


def test_a_card_says_what_the_model_takes_and_gives(marketplace: Marketplace) -> None:
    page = words(marketplace.owner.client.get("/"))

    assert "openlab/digits What digits does. A FP32 [n] B FP32 [n] → SUM FP32 [n] Image classification" in page
    assert "Apache-2.0 1 subscriber" in page
    assert "Subscribed" in page
    assert "Private" in page


@pytest.mark.parametrize("text", ["digits", "digts", "DIGITS", "mnist"])
def test_search_finds_a_misspelt_word(marketplace: Marketplace, text: str) -> None:
    factories.model(marketplace.openlab, "sentiment")

    assert titles(marketplace.anonymous.client.get("/", {"q": text})) == ["Digits"]


def test_nothing_found_says_what_to_do(marketplace: Marketplace) -> None:
    page = words(marketplace.anonymous.client.get("/", {"q": "qwertzuiop"}))

    assert "0 models for “qwertzuiop”" in page
    assert "Nothing matches. Try other or fewer words" in page


@pytest.mark.parametrize("query", ["task=OTHER", "tag=text", "license=MIT", "publisher=otherlab"])
def test_a_filter_narrows_and_stays_chosen(marketplace: Marketplace, query: str) -> None:
    other = factories.tenant("otherlab", is_publisher=True)
    factories.model(other, "sentiment", task="OTHER", tags=["text"], license="MIT")

    response = marketplace.anonymous.client.get(f"/?{query}")

    assert titles(response) == ["Sentiment"]
    value = query.partition("=")[2]
    assert re.search(rf'value="{value}" checked', response.content.decode())
    assert "Clear filters" in words(response)


def test_facets_are_counted(marketplace: Marketplace) -> None:
    factories.model(marketplace.openlab, "sentiment", tags=["vision"])
    factories.model(marketplace.openlab, "minilm", task="TEXT_EMBEDDING")

    page = words(marketplace.anonymous.client.get("/"))

    assert "Task Image classification 1 Other 1 Text embedding 1" in page
    assert "Tag vision 2 mnist 1" in page


def test_subscribed_only(marketplace: Marketplace) -> None:
    factories.model(marketplace.openlab, "sentiment")

    assert titles(marketplace.owner.client.get("/?subscribed=1")) == ["Digits"]


def test_order_by_name(marketplace: Marketplace) -> None:
    for name in ("beta", "alpha"):
        factories.model(marketplace.openlab, name)

    assert titles(marketplace.anonymous.client.get("/?order=NAME")) == ["Alpha", "Beta", "Digits"]


def test_pages_forwards_and_back(marketplace: Marketplace) -> None:
    for number in range(30):
        factories.model(marketplace.openlab, f"model-{number:02}")
    browser = marketplace.anonymous.client

    first = browser.get("/?order=NAME&license=Apache-2.0")
    (following,) = re.findall(r'rel="next" href="([^"]+)"', first.content.decode())
    second = browser.get("/" + following.replace("&amp;", "&"))
    (back,) = re.findall(r'rel="prev" href="([^"]+)"', second.content.decode())
    again = browser.get("/" + back.replace("&amp;", "&"))

    assert len(titles(first)) == 24
    assert titles(first) + titles(second) == ["Digits", *(f"Model {number:02}" for number in range(30))]
    assert titles(again) == titles(first)
    assert 'rel="prev"' not in first.content.decode()
    assert 'rel="next"' not in second.content.decode()


def test_many_cards_cost_no_more_queries(marketplace: Marketplace, django_assert_max_num_queries: Any) -> None:
    browser = marketplace.owner.client
    with django_assert_max_num_queries(20) as few:
        browser.get("/")
    for _ in range(10):
        model = factories.model(marketplace.openlab)
        factories.version(model)
        factories.subscription(marketplace.acme, factories.plan(model))

    with django_assert_max_num_queries(len(few)):
        assert len(titles(browser.get("/"))) == 12


@pytest.mark.parametrize("query", ["after=forged", "before=%00", "q=%00", "task=NO_SUCH_TASK", "order=NO_SUCH_ORDER"])
def test_a_forged_query_is_no_failure_of_ours(marketplace: Marketplace, query: str) -> None:
    response = marketplace.anonymous.client.get(f"/?{query}")

    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert "This request makes no sense" in words(response)


def test_what_people_wrote_is_text(marketplace: Marketplace) -> None:
    factories.model(marketplace.openlab, "evil", display_name="<script>alert(1)</script>", tags=["<b>x</b>"])

    page = marketplace.anonymous.client.get("/", {"q": "<script>alert(2)</script>"}).content.decode()
    page += marketplace.anonymous.client.get("/").content.decode()

    assert "<script>alert" not in page
    assert "<b>x" not in page
