"""GraphQL over HTTP: media types, methods, statuses, CSRF, and bodies that are none."""

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from graphql_api.bodies import BodyLimit
from graphql_api.limits import MAX_ANONYMOUS_BODY_BYTES, MAX_BODY_BYTES
from marketplace.access import TenantRole
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

QUERY = "{ __typename }"
INVALID = "{ nothing }"
MUTATION = 'mutation { createApiKey(input: {name: "made"}) { secret errors { code } } }'

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"

pytestmark = pytest.mark.django_db


def post(body: Any = None, **headers: str) -> Any:
    return Caller().post({"query": QUERY} if body is None else body, **headers)


def get(path: str = "/graphql", accept: str = JSON, **parameters: str) -> Any:
    return Client().get(path, parameters, headers={"Accept": accept})


def test_the_address_is_graphql() -> None:
    assert reverse("graphql") == "/graphql"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (JSON, JSON),
        (GRAPHQL, GRAPHQL),
        (f"{GRAPHQL}, {JSON};q=0.9", GRAPHQL),
        (f"{JSON}, {GRAPHQL};q=0.9", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (f"{GRAPHQL}; charset=utf-8, {JSON}; charset=utf-8", GRAPHQL),
    ],
)
def test_the_answer_has_the_media_type_that_was_asked_for(accept: str, media_type: str) -> None:
    response = post(Accept=accept)

    assert response.status_code == 200
    assert response.headers["Content-Type"] == f"{media_type}; charset=utf-8"
    assert response.json() == {"data": {"__typename": "Query"}}


def test_without_an_accept_header_the_answer_is_json() -> None:
    assert post().headers["Content-Type"] == f"{JSON}; charset=utf-8"


@pytest.mark.parametrize("accept", ["text/plain", "image/png", "application/xml"])
def test_an_answer_that_cannot_be_given_is_406(accept: str) -> None:
    assert post(Accept=accept).status_code == 406


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/graphql",
        "application/json; charset=utf-16",
        "",
    ],
)
def test_a_body_of_another_type_is_415(content_type: str) -> None:
    assert post(content_type=content_type).status_code == 415


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
def test_json_by_any_spelling_is_read(content_type: str) -> None:
    assert post(content_type=content_type).status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "head"])
def test_other_methods_are_405(method: str) -> None:
    response = getattr(Client(), method)("/graphql")

    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"{",
        b"nonsense",
        b'"string"',
        b"5",
        b"null",
        b"\xff\xfe",
        b'{"query": "{ __typename }", "variables": {"x": NaN}}',
        b'{"query": "\\ud800"}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        [],
        [{"query": QUERY}],
        {},
        {"query": None},
        {"query": ""},
        {"query": "  "},
        {"query": 5},
        {"query": [QUERY]},
        {"query": QUERY, "variables": "x"},
        {"query": QUERY, "variables": [1]},
        {"query": QUERY, "operationName": 5},
        {"query": QUERY, "extensions": "x"},
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL])
def test_a_body_that_is_no_request_is_400(body: Any, accept: str) -> None:
    response = post(body, Accept=accept)

    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith(accept)
    assert response.json()["errors"][0]["message"]
    assert "data" not in response.json()


def test_what_is_null_is_left_out() -> None:
    assert post({"query": QUERY, "variables": None, "operationName": None, "extensions": None}).status_code == 200


@pytest.mark.parametrize(("accept", "status"), [(JSON, 200), (GRAPHQL, 400)])
@pytest.mark.parametrize(
    "body",
    [
        {"query": "{"},
        {"query": INVALID},
        {"query": "query a { __typename } query b { __typename }"},
        {"query": "query a { __typename }", "operationName": "b"},
        {"query": "query ($n: Int!) { models(first: $n) { totalCount } }"},
        {"query": "query ($n: Int!) { models(first: $n) { totalCount } }", "variables": {"n": "x"}},
    ],
)
def test_a_request_that_cannot_be_executed_has_no_data(body: Any, accept: str, status: int) -> None:
    response = post(body, Accept=accept)

    assert response.status_code == status
    assert list(response.json()) == ["errors"]


def test_a_field_that_fails_leaves_data_and_is_200() -> None:
    response = post({"query": "{ models(first: 1000) { totalCount } }"}, Accept=GRAPHQL)

    assert response.status_code == 200
    assert response.json()["data"] is None
    assert response.json()["errors"][0]["path"] == ["models"]


def test_one_of_several_operations_is_chosen_by_its_name() -> None:
    document = "query a { viewer { role } } query b { __typename }"

    assert post({"query": document, "operationName": "b"}).json() == {"data": {"__typename": "Query"}}


def test_a_query_may_come_by_get() -> None:
    response = get(
        query="query ($ref: String!) { model(ref: $ref) { name } }", variables='{"ref": "no/thing"}', operationName=""
    )

    assert (response.status_code, response.json()) == (200, {"data": {"model": None}})


@pytest.mark.parametrize(
    "parameters", [{}, {"query": ""}, {"query": QUERY, "variables": "{"}, {"query": QUERY, "variables": "[1]"}]
)
def test_a_get_that_is_no_request_is_400(parameters: dict[str, str]) -> None:
    assert get(**parameters).status_code == 400


def test_a_mutation_by_get_is_405_and_changes_nothing(marketplace: Marketplace) -> None:
    response = marketplace.owner.client.get("/graphql", {"query": MUTATION}, headers={"Accept": JSON})

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    assert not ApiKey.objects.filter(name="made").exists()


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer nonsense",
        "Bearer",
        "Bearer  ",
        "Basic dXNlcjpwYXNz",
        "mk_0123456789",
        "Bearer mk_0123456789_00000000000000000000000000000000000000",
        "Bearer é",
    ],
)
def test_a_key_that_is_not_valid_is_401_whatever_is_asked(authorization: str) -> None:
    response = post(Authorization=authorization)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["UNAUTHENTICATED"]


def test_a_key_that_is_not_valid_does_not_fall_back_to_the_session(marketplace: Marketplace) -> None:
    assert marketplace.owner.post({"query": QUERY}, Authorization="Bearer nonsense").status_code == 401


def test_an_anonymous_mutation_is_unauthenticated() -> None:
    answer = post({"query": MUTATION}).json()

    assert answer["data"] is None
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]


def strict(marketplace: Marketplace) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(marketplace.alice)
    return client


def test_a_sessions_request_without_its_csrf_token_is_403_and_changes_nothing(marketplace: Marketplace) -> None:
    response = strict(marketplace).post("/graphql", json.dumps({"query": MUTATION}), content_type=JSON)

    assert response.status_code == 403
    assert response.json()["errors"][0]["extensions"]["code"] == "CSRF"
    assert not ApiKey.objects.filter(name="made").exists()


def test_a_sessions_request_with_its_csrf_token_is_answered(marketplace: Marketplace) -> None:
    client = strict(marketplace)
    client.get("/graphql", headers={"Accept": "text/html"})
    token = client.cookies["csrftoken"].value

    response = client.post(
        "/graphql", json.dumps({"query": MUTATION}), content_type=JSON, headers={"X-CSRFToken": token}
    )

    assert response.json()["data"]["createApiKey"]["errors"] == []


def test_a_key_needs_no_csrf_token(marketplace: Marketplace) -> None:
    client = strict(marketplace)
    key = factories.api_key(marketplace.acme, TenantRole.ADMIN)

    response = client.post(
        "/graphql", json.dumps({"query": MUTATION}), content_type=JSON, headers={"Authorization": f"Bearer {key}"}
    )

    assert response.json()["data"]["createApiKey"]["errors"] == []


def test_who_has_no_session_needs_no_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)

    assert client.post("/graphql", json.dumps({"query": QUERY}), content_type=JSON).status_code == 200


def test_an_answer_is_kept_by_nobody(marketplace: Marketplace) -> None:
    assert marketplace.owner.post({"query": QUERY}).headers["Cache-Control"] == "no-store"


def test_a_stranger_may_send_less_than_a_tenant(marketplace: Marketplace) -> None:
    body = {"query": QUERY, "variables": {"x": "y" * MAX_ANONYMOUS_BODY_BYTES}}

    assert marketplace.anonymous.post(body).status_code == 413
    assert marketplace.owner.post(body).status_code == 200


class Sent(list[dict[str, Any]]):
    async def __call__(self, message: Any) -> None:
        self.append(message)


async def through_the_limit(declared: int | None, *chunks: bytes) -> tuple[int, bool]:
    """The status that a request under BodyLimit gets, and whether the application heard of it."""
    heard = False
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal heard
        heard = True
        while (message := await receive())["type"] == "http.request" and message.get("body"):
            pass
        if message["type"] == "http.request":
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.request", "body": b"", "more_body": False}

    sent = Sent()
    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    await BodyLimit(application, most=10)({"type": "http", "headers": headers}, receive, sent)
    return sent[0]["status"], heard


async def test_a_body_that_says_it_is_too_large_is_413_before_it_is_read() -> None:
    assert await through_the_limit(11) == (413, False)


async def test_a_body_that_does_not_say_how_large_it_is_is_413_once_it_is_too_large() -> None:
    assert await through_the_limit(None, b"123456", b"789012") == (413, True)


async def test_a_body_within_the_limit_goes_through() -> None:
    assert await through_the_limit(10, b"1234567890") == (200, True)


def test_a_body_of_100_mb_is_past_the_limit_and_the_largest_tensor_is_not() -> None:
    assert 64 * 1024 * 1024 * 4 / 3 < MAX_BODY_BYTES < 100_000_000
