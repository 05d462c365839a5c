"""When something is wrong the page is calm, says what to do, and gives nothing away."""

from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.views.defaults import server_error

from frontend import page
from graphql_api.execution import Answer
from tests.frontend.conftest import Marketplace, words

PAGES = ["/", "/models/openlab/digits/", "/publishers/openlab/", "/usage/", "/keys/", "/accounts/login/", "/nothing"]


def test_a_missing_page(marketplace: Marketplace) -> None:
    response = marketplace.anonymous.client.get("/nothing/here/")

    assert response.status_code == 404
    assert "There is no such page, or it is not yours to see." in words(response)
    assert "/accounts/login/?next=/nothing/here/" in response.content.decode()


def test_a_failure_of_ours_has_a_reference_and_nothing_else(
    marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Answer:
        return Answer(None, [{"message": "Internal error. Reference: abc.", "extensions": {"code": "INTERNAL"}}])

    monkeypatch.setattr(page, "execute", broken)
    response = marketplace.owner.client.get("/usage/")

    assert response.status_code == 500
    assert "Something went wrong Internal error. Reference: abc." in words(response)


def test_the_last_resort_needs_no_context() -> None:
    response = server_error(RequestFactory().get("/"))

    assert response.status_code == 500
    assert "It is our fault and has been logged." in words(response)


def test_too_many_tries() -> None:
    assert "Wait a few minutes, then try again." in render_to_string("429.html")


@pytest.mark.parametrize("url", PAGES)
@pytest.mark.parametrize("who", ["owner", "anonymous"])
def test_no_page_breaks_the_content_security_policy(marketplace: Marketplace, url: str, who: str) -> None:
    response = getattr(marketplace, who).client.get(url)

    html = response.content.decode()
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert " style=" not in html
    assert "<style" not in html
    assert " onclick=" not in html
    assert "javascript:" not in html
    for script in html.split("<script")[1:]:
        assert " src=" in script.partition(">")[0] or 'type="application/json"' in script.partition(">")[0]


def test_a_request_for_another_host_is_refused(db: None) -> None:
    assert Client().get("/", headers={"Host": "evil.example"}).status_code == 400
