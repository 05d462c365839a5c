"""Who may open which page. An address of the site that has no row here fails the suite."""

import re
from collections.abc import Callable, Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.frontend.conftest import Marketplace

WHO = ("owner", "colleague", "stranger", "publisher", "anonymous")
Address = Callable[[Marketplace], str]


def address(name: str, **arguments: str) -> Address:
    return lambda _marketplace: reverse(name, kwargs=arguments)


EVERYBODY = (200, 200, 200, 200, 200)
MEMBERS = (200, 200, 200, 200, 302)
NEWCOMERS = (302, 302, 302, 302, 200)
GRANTED = (200, 200, 404, 200, 404)
NOBODY = (404, 404, 404, 404, 404)

# By the name of the URL, then what is asked for: the statuses for owner, colleague, stranger, publisher, anonymous.
TABLE: dict[str, list[tuple[Address, tuple[int, int, int, int, int]]]] = {
    "explore": [(address("explore"), EVERYBODY)],
    "model": [
        (address("model", publisher="openlab", model="digits"), EVERYBODY),
        (address("model", publisher="openlab", model="secret"), GRANTED),
        (address("model", publisher="openlab", model="missing"), NOBODY),
        (address("model", publisher="missing", model="digits"), NOBODY),
    ],
    "publisher": [
        (address("publisher", slug="openlab"), EVERYBODY),
        (address("publisher", slug="acme"), NOBODY),
        (address("publisher", slug="missing"), NOBODY),
    ],
    "usage": [(address("usage"), MEMBERS)],
    "become_publisher": [(address("become_publisher"), MEMBERS)],
    "keys": [(address("keys"), MEMBERS)],
    "javascript_catalog": [(address("javascript_catalog"), EVERYBODY)],
    "account_login": [(address("account_login"), NEWCOMERS)],
    "account_logout": [(address("account_logout"), MEMBERS)],
    "account_signup": [(address("account_signup"), NEWCOMERS)],
    "account_inactive": [(address("account_inactive"), EVERYBODY)],
    "account_change_password": [(address("account_change_password"), MEMBERS)],
    # Whoever has a password is sent on to changing it.
    "account_set_password": [(address("account_set_password"), (302, 302, 302, 302, 302))],
    "account_reset_password": [(address("account_reset_password"), EVERYBODY)],
    "account_reset_password_done": [(address("account_reset_password_done"), EVERYBODY)],
    "account_reset_password_from_key": [
        (address("account_reset_password_from_key", uidb36="0", key="forged-key"), EVERYBODY)
    ],
    "account_reset_password_from_key_done": [(address("account_reset_password_from_key_done"), EVERYBODY)],
    # GraphiQL, as a browser asks for it; what the API answers to whom is in tests/graphql_api/test_access.py.
    "graphql": [(address("graphql"), EVERYBODY)],
    "healthz": [(address("healthz"), EVERYBODY)],
    "jwks": [(address("jwks"), EVERYBODY)],
}
# Its answer depends on what runs: tests/inference/test_health.py. The two panels: tests/publishing.
ELSEWHERE = {"readyz", "admin", "publish"}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", TABLE)
def test_who_gets_in(marketplace: Marketplace, name: str, who: str) -> None:
    browser = getattr(marketplace, who).client
    for find, statuses in TABLE[name]:
        url = find(marketplace)
        response = browser.get(url, headers={"Accept": "text/html"})
        assert response.status_code == statuses[WHO.index(who)], url


def names(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern.name or str(pattern.pattern)
        elif pattern.namespace:
            yield pattern.namespace
        else:
            yield from names(pattern.url_patterns)


def test_every_address_has_a_row() -> None:
    assert set(names(get_resolver().url_patterns)) == TABLE.keys() | ELSEWHERE


@pytest.mark.parametrize("who", ["stranger", "anonymous"])
def test_a_foreign_page_is_a_missing_page(marketplace: Marketplace, who: str) -> None:
    browser = getattr(marketplace, who).client
    tokens = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')

    foreign = browser.get("/models/openlab/secret/").content.decode()
    missing = browser.get("/models/openlab/absent/").content.decode()

    assert tokens.sub("", foreign) == tokens.sub("", missing.replace("absent", "secret"))


@pytest.mark.parametrize("url", ["/usage/", "/keys/"])
def test_whoever_must_sign_in_comes_back(marketplace: Marketplace, url: str) -> None:
    response = marketplace.anonymous.client.get(f"{url}?after=x")

    assert response.headers["Location"] == f"/accounts/login/?next={url}%3Fafter%3Dx"


@pytest.mark.parametrize("url", ["/", "/models/openlab/digits/", "/publishers/openlab/", "/usage/", "/keys/"])
def test_only_reading_and_posting(marketplace: Marketplace, url: str) -> None:
    for method in ("put", "patch", "delete"):
        assert getattr(marketplace.owner.client, method)(url).status_code == 405
    assert marketplace.owner.client.head(url).status_code == 200
