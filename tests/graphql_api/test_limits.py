"""What is too much to ask for at once, and documents that are none."""

from typing import Any

import pytest

from graphql_api.limits import MAX_ALIASES, MAX_DEPTH
from tests import factories
from tests.graphql_api.caller import Caller

INTROSPECTION = "{ __schema { queryType { name } } }"

pytestmark = pytest.mark.django_db


def deep(levels: int) -> str:
    """A document of `levels` fields below one another."""
    steps = ["models", "edges", "node"] + ["publisher", "models", "edges", "node"] * 10
    fields = [step + ("(first: 1)" if step == "models" else "") for step in steps[: levels - 1]]
    return "{" + "{".join([*fields, "id" if fields[-1] in ("node", "publisher") else "__typename"]) + "}" * levels


def code(document: str, **variables: Any) -> str:
    return str(Caller().error(document, **variables)["extensions"]["code"])


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "}",
        "models",
        "{ models( }",
        "{ nothing }",
        "{ models }",
        "{ viewer { role { x } } }",
        "query ($a: Int) { viewer { role } }",
        "query { models(first: $undefined) { totalCount } }",
        "{ ...missing }",
        "fragment f on Query { viewer { role } }",
        "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }",
        "query { model(ref: 5) { id } }",
        "{ models(orderBy: SIZE) { totalCount } }",
        "subscription { invokeModel { x } }",
        "type Query { a: Int }",
        "\0",
        '{ model(ref: "\\ud800") { id } }',
        "# only a comment",
        '{ model(ref: "unterminated) { id } }',
    ],
)
def test_a_document_that_is_none_is_a_clear_error(document: str) -> None:
    response = Caller().post({"query": document})

    answer = response.json()
    assert response.status_code == 200
    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert answer["errors"][0]["message"]


def test_the_deepest_document_is_answered() -> None:
    Caller().data(deep(MAX_DEPTH))


def test_one_field_deeper_is_refused() -> None:
    assert "at most 15 fields deep, not 16" in Caller().error(deep(MAX_DEPTH + 1))["message"]


def test_depth_counts_through_fragments() -> None:
    parts = "".join(
        f" fragment f{n} on Model {{ publisher {{ models {{ edges {{ node {{ ...f{n + 1} }} }} }} }} }}"
        for n in range(4)
    )

    error = Caller().error("{ models { edges { node { ...f0 } } } }" + parts + " fragment f4 on Model { id }")

    assert "fields deep" in error["message"]


@pytest.mark.parametrize("nested", ["{a" * 3000, "{ models(filter: " + "{a:" * 1500, "{ m(x: " + "[" * 3000])
def test_a_document_nested_without_end_is_refused(nested: str) -> None:
    assert code(nested) == "BAD_REQUEST"


def test_aliases_are_limited() -> None:
    some = " ".join(f"a{n}: viewer {{ role }}" for n in range(MAX_ALIASES))

    Caller().data("{" + some + "}")
    assert "at most 50 aliases, not 51" in Caller().error("{" + some + " b: viewer { role } }")["message"]


def test_a_field_repeated_without_end_is_refused() -> None:
    assert "repeated" in Caller().error("{" + "viewer{role} " * 900 + "}")["message"]


def test_tokens_are_limited() -> None:
    ids = ", ".join('"x"' for _ in range(5000))

    assert "4000 tokens" in Caller().error("{ nodes(ids: [" + ids + "]) { id } }")["message"]


def test_characters_are_limited_and_variables_said_to_be_the_place_for_data() -> None:
    error = Caller().error('{ model(ref: "' + "x" * 70_000 + '") { id } }')

    assert "in variables" in error["message"]


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        (
            "{ models(first: 100) { edges { node { versions(first: 100) { edges { node { id number status format } } } "
            "} } } }",
            {},
        ),
        (
            "query ($n: Int) { models(first: $n) { edges { node { versions(first: $n) { edges { node { id number "
            "status } } } } } } }",
            {"n": 100},
        ),
        (
            "query ($n: Int = 100) { models(last: $n) { edges { node { ...v } } } } "
            "fragment v on Model { versions(first: $n) { edges { node { id number status } } } }",
            {},
        ),
        (
            "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Publisher { models(first: 100) { edges { node { id name "
            "displayName summary } } } } } }",
            {"ids": ["x"] * 100},
        ),
    ],
)
def test_pages_of_pages_are_counted_at_their_full_size(document: str, variables: dict[str, Any]) -> None:
    assert "Ask for smaller pages" in Caller().error(document, **variables)["message"]


def test_a_full_page_of_models_with_all_about_them_is_answered() -> None:
    fields = "id ref name displayName summary card cardHtml task tags license visibility createdAt updatedAt"
    below = "publisher { slug name } plans { id name price { amount currency } } liveVersion { inputs { name } }"

    Caller().data("{ models(first: 100) { edges { cursor node { " + fields + " " + below + " } } } }")


def test_at_most_100_nodes_at_once() -> None:
    error = Caller().error("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["x"] * 101)

    assert error["extensions"] == {"code": "VALIDATION", "path": "ids"}


def test_introspection_can_be_switched_off(settings: Any) -> None:
    assert Caller().data(INTROSPECTION)["__schema"]["queryType"]["name"] == "Query"

    settings.GRAPHQL_INTROSPECTION = False

    assert code(INTROSPECTION) == "BAD_REQUEST"
    assert Caller().data("{ __typename }") == {"__typename": "Query"}


def test_without_introspection_no_error_suggests_a_name(settings: Any) -> None:
    settings.GRAPHQL_INTROSPECTION = False

    assert "Did you mean" not in Caller().error("{ modls { totalCount } }")["message"]


def test_introspection_in_circles_is_refused() -> None:
    circle = "{ fields { type " * 6 + "{ name }" + " } }" * 6

    assert code('{ __type(name: "Model") ' + circle + "}") == "BAD_REQUEST"


def test_a_large_introspection_of_tools_is_answered() -> None:
    from graphql import get_introspection_query  # noqa: PLC0415  (needed by this test alone)

    assert Caller().data(get_introspection_query(descriptions=True))["__schema"]["types"]


def test_what_was_refused_changed_nothing() -> None:
    tenant = factories.tenant("acme")
    caller = Caller(key=factories.api_key(tenant))
    before = tenant.api_keys.count()

    document = (
        "mutation {" + " ".join(f'a{n}: createApiKey(input: {{name: "n"}}) {{ secret }}' for n in range(51)) + "}"
    )

    assert caller.error(document)["extensions"]["code"] == "BAD_REQUEST"
    assert tenant.api_keys.count() == before
