"""GraphiQL: for a browser's GET, from our own files alone."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

pytestmark = pytest.mark.django_db


def page() -> Any:
    return Client().get("/graphql", headers={"Accept": BROWSER})


def test_a_browser_gets_graphiql() -> None:
    response = page()

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert 'id="graphiql"' in response.text


def test_it_can_be_switched_off(settings: Any) -> None:
    settings.GRAPHIQL = False

    assert page().status_code == 400


def test_a_browser_that_sends_a_query_gets_its_answer() -> None:
    response = Client().get("/graphql", {"query": "{ __typename }"}, headers={"Accept": BROWSER})

    assert response.json() == {"data": {"__typename": "Query"}}


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    html = page().text

    assert re.findall(r"(?:src|href)=\"(?!/)[^\"]*", html) == []
    assert "//" not in html.replace("<!doctype html>", "")


def test_every_file_of_the_page_is_here() -> None:
    files = re.findall(r"/static/([^\"]+)", page().text)

    assert len(files) == 7
    assert [name for name in files if finders.find(name) is None] == []


def test_its_style_sheet_asks_for_nothing_from_elsewhere() -> None:
    found = finders.find("vendor/graphiql/graphiql.min.css")
    assert isinstance(found, str)

    assert re.findall(r"url\((?!data:)[^)]*\)|@import", Path(found).read_text()) == []


def test_its_policy_lets_no_script_but_our_own_run() -> None:
    policy = page().headers["Content-Security-Policy"]

    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy


def test_the_relaxed_policy_is_its_own_alone() -> None:
    answer = Client().get("/graphql", {"query": "{ __typename }"}, headers={"Accept": "application/json"})

    assert "unsafe-inline" in page().headers["Content-Security-Policy"]
    assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]


def test_it_brings_the_csrf_token_that_its_requests_send() -> None:
    response = page()

    assert re.search(r'data-csrf="\w{64}"', response.text)
    assert "csrftoken" in response.cookies
