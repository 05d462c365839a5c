"""GraphQL over Server-Sent Events (graphql-sse, distinct connections mode), by a plain client and a real process."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey
from tests.doors.graphql.client import PROMPT, browser, ended, everything, payload, said, sse, talk, used, witness
from tests.doors.site import Site

pytestmark = pytest.mark.usefixtures("talker")

ADD = """
mutation {
  invokeModel(input: {model: "openlab/add", inputs: [
    {name: "A", datatype: FP32, shape: [1], data: [1]}, {name: "B", datatype: FP32, shape: [1], data: [2]}
  ]}) { invocation { outputs { data } } errors { code } }
}"""


def customer(site: Site, **terms: Any) -> str:
    usual = {"unit": "TOKEN", "included_units": 100_000, "max_tokens_per_call": 1000}
    return site.customer("openlab/talker", **usual | terms)


async def test_a_stream_is_chunks_in_order_and_then_the_settled_invocation(site: Site) -> None:
    *chunks, last, end = await everything(site, talk(max_tokens=5), **site.headers("subscriber"))

    assert [name for name, _data in chunks] == ["next"] * 5
    assert [data["data"]["invokeModel"]["sequence"] for _name, data in chunks] == [0, 1, 2, 3, 4]
    assert "".join(said(data) for _name, data in chunks) == "word1 word2 word3 word4 word5 "
    (id,) = {data["data"]["invokeModel"]["invocationId"] for _name, data in chunks}
    assert payload(last[1]) == {
        "__typename": "InvokeModelPayload",
        "invocation": {
            "id": id,
            "status": "SUCCEEDED",
            "units": str(5 + len(PROMPT)),
            "unit": "TOKEN",
            "version": {"number": 1},
            "outputs": None,
        },
        "errors": [],
    }
    assert end == ("complete", None)


async def test_the_stream_may_be_asked_for_by_get(site: Site) -> None:
    events = await everything(site, talk(max_tokens=2), method="GET", **site.headers("subscriber"))

    assert [name for name, _data in events] == ["next", "next", "next", "complete"]


async def test_a_model_that_does_not_stream_answers_with_one_chunk(site: Site) -> None:
    vectors = [{"name": name, "datatype": "FP32", "shape": [1], "data": [2]} for name in ("A", "B")]
    body = talk() | {"variables": {"input": {"model": "openlab/add", "inputs": vectors}}}

    chunk, last, _end = await everything(site, body, **site.headers("subscriber"))

    assert chunk[1]["data"]["invokeModel"]["outputs"] == [{"name": "SUM", "data": [4]}]
    assert payload(last[1])["invocation"]["units"] == "1"


@pytest.mark.parametrize(
    ("document", "data"),
    [
        ("{ __typename }", {"__typename": "Query"}),
        (ADD, {"invokeModel": {"invocation": {"outputs": [{"data": [3]}]}, "errors": []}}),
    ],
)
async def test_queries_and_mutations_are_one_event(site: Site, document: str, data: Any) -> None:
    event, end = await everything(site, {"query": document}, **site.headers("subscriber"))

    assert event == ("next", {"data": data})
    assert end == ("complete", None)


@pytest.mark.parametrize(
    "document", ["subscription { nothing }", "subscription {", "subscription { invokeModel(input: 1) { __typename } }"]
)
async def test_what_is_refused_before_execution_is_an_event(site: Site, document: str) -> None:
    event, end = await everything(site, {"query": document}, **site.headers("subscriber"))

    assert "data" not in event[1]
    assert event[1]["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert end == ("complete", None)


@pytest.mark.parametrize(
    ("who", "change", "problem"),
    [
        ("stranger", {}, "SubscriptionRequired"),
        ("viewer", {}, "PermissionDenied"),
        ("subscriber", {"model": "openlab/none"}, "NotFound"),
        ("subscriber", {"pause": [1]}, "ValidationProblem"),
    ],
)
async def test_an_expected_failure_is_a_payload(site: Site, who: str, change: dict[str, Any], problem: str) -> None:
    event, end = await everything(site, talk(**change), **site.headers(who))

    refused = payload(event[1])
    assert refused["invocation"] is None
    assert [error["__typename"] for error in refused["errors"]] == [problem]
    assert end == ("complete", None)


async def test_a_quota_that_is_used_up_is_a_payload(site: Site) -> None:
    key = customer(site, included_units=0)

    event, _end = await everything(site, talk(max_tokens=5), **site.headers(key))

    assert [error["code"] for error in payload(event[1])["errors"]] == ["QUOTA_EXCEEDED"]


async def test_a_model_that_fails_on_the_way_has_charged_what_was_taken(site: Site) -> None:
    key = customer(site)

    *chunks, last, _end = await everything(site, talk(fail_after=4), **site.headers(key))

    assert len(chunks) == 3
    assert payload(last[1])["errors"][0]["__typename"] == "InferenceFailed"
    assert "lost its tongue" in payload(last[1])["errors"][0]["message"]
    assert used(site, key) == (3 + len(PROMPT), 0)


async def test_whoever_leaves_stops_the_model_and_is_charged_what_they_got(site: Site, tmp_path: Path) -> None:
    key = customer(site)

    async with sse(site, talk(witness=str(tmp_path / "note"), pause=0.02), **site.headers(key)) as events:
        heard = 0
        async for _event in events:
            heard += 1
            if heard == 3:
                break

    said_by_then = await asyncio.to_thread(witness, tmp_path / "note")
    charged = (await asyncio.to_thread(ended, site, key)).charged
    assert heard - 1 + len(PROMPT) <= charged <= said_by_then + len(PROMPT)
    assert used(site, key) == (charged, 0)


async def test_calls_under_way_are_bounded_for_each_key(site: Site) -> None:
    with site.another_server(CALLS_PER_KEY="1") as server:
        async with sse(server, talk(pause=0.05), **site.headers("subscriber")) as events:
            async for _event in events:
                refused, _end = await everything(server, talk(), **site.headers("subscriber"))
                break
        assert [error["__typename"] for error in payload(refused[1])["errors"]] == ["RateLimited"]


async def test_nobody_streams_nothing(site: Site) -> None:
    event, _end = await everything(site, talk())

    assert event[1]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert "data" not in event[1]


@pytest.mark.parametrize("who", ["revoked", "expired", "nonsense"])
async def test_a_key_that_is_not_valid_is_401(site: Site, who: str) -> None:
    async with sse(site, talk(), **site.headers(who)) as events:
        assert events.response.status_code == 401
        assert events.response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_key_revoked_on_the_way_is_refused_from_its_next_call_on(site: Site) -> None:
    key = customer(site)

    async with sse(site, talk(max_tokens=50, pause=0.01), **site.headers(key)) as events:
        heard = []
        async for event in events:
            if not heard:
                site.records(
                    lambda: ApiKey.objects.filter(digest=keys.digest(key)).update(revoked_at="2020-01-01T00:00Z")
                )
            heard.append(event)

    assert payload(heard[-2][1])["invocation"]["units"] == str(50 + len(PROMPT))
    async with sse(site, talk(), **site.headers(key)) as events:
        assert events.response.status_code == 401


@pytest.mark.parametrize(
    "accept", ["*/*", "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"]
)
async def test_who_accepts_a_stream_among_others_gets_one_for_a_subscription_alone(site: Site, accept: str) -> None:
    headers = {"Accept": accept} | site.headers("subscriber")
    async with httpx.AsyncClient(headers=headers) as client:
        streamed = await client.post(f"{site.url}/graphql", json=talk(max_tokens=1))
        plain = await client.post(f"{site.url}/graphql", json={"query": "{ __typename }"})

    assert streamed.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert streamed.text.endswith("event: complete\ndata:\n\n")
    assert plain.json() == {"data": {"__typename": "Query"}}


async def test_without_accepting_a_stream_a_subscription_is_406(site: Site) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{site.url}/graphql", json=talk(), headers={"Accept": "application/json"} | site.headers("subscriber")
        )

    assert answer.status_code == 406
    assert "text/event-stream" in answer.json()["errors"][0]["message"]


async def test_a_session_streams_with_its_csrf_token(site: Site) -> None:
    async with browser(site) as visitor:
        async with visitor.stream(
            "POST", "/graphql", json=talk(max_tokens=1), headers={"Accept": "text/event-stream"}
        ) as refused:
            assert refused.status_code == 403
        token = visitor.cookies["csrftoken"]

        *_chunks, last, end = await everything(site, talk(max_tokens=3), cookies=visitor.cookies, X_CSRFToken=token)

    assert payload(last[1])["invocation"]["status"] == "SUCCEEDED"
    assert end == ("complete", None)


async def test_no_page_elsewhere_can_make_a_session_pay(site: Site) -> None:
    async with browser(site) as visitor, sse(site, talk(max_tokens=1), cookies=visitor.cookies, method="GET") as events:
        assert events.response.status_code == 405
