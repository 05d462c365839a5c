"""Pages: keyset cursors forwards and backwards in every order, their sizes, their counts, and what is refused."""

import base64
import json
from typing import Any

import pytest

from marketplace.tenants.models import Tenant
from tests import factories
from tests.graphql_api.caller import Caller, nodes

PAGE = """
query ($first: Int, $after: String, $last: Int, $before: String, $orderBy: ModelOrder!, $search: String) {
  models(first: $first, after: $after, last: $last, before: $before, orderBy: $orderBy, search: $search) {
    edges { cursor node { name } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""

COUNT = "{ models { totalCount } }"
PAGE_AND_COUNT = "{ models(first: 1) { totalCount edges { node { name } } } }"
FACETS_ONLY = "{ models { facets { tasks { value } } } }"

NESTED = """
query ($first: Int) {
  models(orderBy: NAME) { edges { node { name versions(first: $first) {
    totalCount edges { node { number } } pageInfo { hasNextPage }
  } } } }
}"""

ORDERS = ("RELEVANCE", "POPULARITY", "NEWEST", "NAME")


@pytest.fixture
def openlab(db: None) -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def seven(openlab: Tenant) -> list[str]:
    """Seven public models, of which several are equally popular and equally relevant."""
    names = ["delta", "alpha", "golf", "bravo", "foxtrot", "charlie", "echo"]
    for position, name in enumerate(names):
        factories.model(openlab, name, summary="Sees letters.", subscriber_count=position // 3)
    return names


def page(**arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = Caller().data(PAGE, **{"orderBy": "NAME"} | arguments)["models"]
    return found


def names(answer: dict[str, Any]) -> list[str]:
    return [node["name"] for node in nodes(answer)]


def test_by_name_is_alphabetical(seven: list[str]) -> None:
    assert names(page(orderBy="NAME")) == sorted(seven)


def test_newest_is_last_created_first(seven: list[str]) -> None:
    assert names(page(orderBy="NEWEST")) == seven[::-1]


def test_by_popularity_is_most_subscribers_first_and_then_newest(seven: list[str]) -> None:
    assert names(page(orderBy="POPULARITY")) == seven[::-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("search", [None, "letters"])
def test_pages_of_two_forwards_are_the_whole_list(seven: list[str], order: str, search: str | None) -> None:
    whole = names(page(orderBy=order, search=search))
    found: list[str] = []
    after, more = None, True

    while more:
        answer = page(orderBy=order, search=search, first=2, after=after)
        found += names(answer)
        after, more = answer["pageInfo"]["endCursor"], answer["pageInfo"]["hasNextPage"]

    assert found == whole
    assert len(found) == 7


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("search", [None, "letters"])
def test_pages_of_two_backwards_are_the_whole_list(seven: list[str], order: str, search: str | None) -> None:
    whole = names(page(orderBy=order, search=search))
    found: list[str] = []
    before, more = None, True

    while more:
        answer = page(orderBy=order, search=search, last=2, before=before)
        found = names(answer) + found
        before, more = answer["pageInfo"]["startCursor"], answer["pageInfo"]["hasPreviousPage"]

    assert found == whole


def test_page_info_tells_what_is_on_either_side(seven: list[str]) -> None:
    first = page(first=3)["pageInfo"]
    second = page(first=3, after=first["endCursor"])["pageInfo"]
    third = page(first=3, after=second["endCursor"])["pageInfo"]

    sides = [(info["hasPreviousPage"], info["hasNextPage"]) for info in (first, second, third)]
    assert sides == [(False, True), (True, True), (True, False)]


def test_a_model_that_appears_between_two_pages_moves_nothing(seven: list[str], openlab: Tenant) -> None:
    first = page(first=3)
    factories.model(openlab, "aardvark")

    second = page(first=10, after=first["pageInfo"]["endCursor"])

    assert names(first) + names(second) == sorted(seven)


def test_a_model_that_goes_between_two_pages_hides_nothing_else(seven: list[str], openlab: Tenant) -> None:
    first = page(first=3)
    openlab.models.get(name="charlie").delete()

    second = page(first=10, after=first["pageInfo"]["endCursor"])

    assert names(second) == ["delta", "echo", "foxtrot", "golf"]


def test_a_page_has_20_entries_unless_it_is_asked_for_more(openlab: Tenant) -> None:
    for _ in range(21):
        factories.model(openlab)

    assert len(names(page())) == 20
    assert len(names(page(first=100))) == 21


def test_a_page_of_none_is_empty(seven: list[str]) -> None:
    answer = page(first=0)

    assert names(answer) == []
    assert answer["pageInfo"]["hasNextPage"] is True


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"first": 101}, "first"),
        ({"first": -1}, "first"),
        ({"last": 101}, "last"),
        ({"last": -5}, "last"),
        ({"first": 1, "last": 1}, "last"),
    ],
)
def test_a_page_that_cannot_be_is_refused(seven: list[str], arguments: dict[str, int], path: str) -> None:
    error = Caller().error(PAGE, orderBy="NAME", **arguments)

    assert error["extensions"] == {"code": "VALIDATION", "path": path}


def cursor(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


ID = "01900000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "x",
        "é",
        "bm9uc2Vuc2U=",
        cursor(),
        cursor("name"),
        cursor("name", "alpha"),
        cursor("name", "alpha", "no-uuid"),
        cursor("name", "alpha", ID, ID),
        cursor("name", ["alpha"], ID),
        cursor("name", "a\0b", ID),
        cursor("name", "a" * 10_000, ID),
        cursor("popularity", "1", ID),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'{"name": 1}').decode(),
    ],
)
def test_a_broken_cursor_is_refused(seven: list[str], broken: str) -> None:
    error = Caller().error(PAGE, orderBy="NAME", after=broken)

    assert error["extensions"] == {"code": "VALIDATION", "path": "after"}


@pytest.mark.parametrize("number", ["1e9", "NaN", "9" * 30, "-" + "9" * 30])
def test_a_cursor_with_a_number_that_no_row_can_have_is_refused(seven: list[str], number: str) -> None:
    error = Caller().error(PAGE, orderBy="POPULARITY", before=cursor("popularity", number, ID))

    assert error["extensions"] == {"code": "VALIDATION", "path": "before"}


def test_the_count_is_a_statement_of_its_own_made_only_when_asked(seven: list[str]) -> None:
    alone = Caller().queries(COUNT)
    both = Caller().queries(PAGE_AND_COUNT)
    page_only = Caller().queries(PAGE, orderBy="NAME", first=1)

    assert [sql.startswith("SELECT COUNT(*)") for sql in alone] == [True]
    assert [sql.startswith("SELECT COUNT(*)") for sql in both] == [False, True]
    assert [sql.startswith("SELECT COUNT(*)") for sql in page_only] == [False]


def test_facets_without_edges_read_no_page(seven: list[str]) -> None:
    (statement,) = Caller().queries(FACETS_ONLY)

    assert "GROUP BY" in statement


def test_a_page_is_found_by_comparing_rows(seven: list[str]) -> None:
    after = page(first=3, orderBy="POPULARITY")["pageInfo"]["endCursor"]

    (statement,) = Caller().queries(PAGE, orderBy="POPULARITY", after=after)

    assert '("catalog_mlmodel"."subscriber_count", "catalog_mlmodel"."id") <= (' in statement


def test_connections_of_many_parents_are_one_page_each(openlab: Tenant) -> None:
    for name, count in (("none", 0), ("one", 1), ("three", 3)):
        model = factories.model(openlab, name)
        for _ in range(count):
            factories.version(model, status="READY")

    found = nodes(Caller().data(NESTED, first=2)["models"])

    assert [
        (
            node["name"],
            node["versions"]["totalCount"],
            [version["number"] for version in nodes(node["versions"])],
            node["versions"]["pageInfo"]["hasNextPage"],
        )
        for node in found
    ] == [("none", 0, [], False), ("one", 1, [1], False), ("three", 3, [3, 2], True)]
