"""GraphQL over WebSocket (graphql-transport-ws), by a plain client and a real process."""

import asyncio
import signal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import websockets

from graphql_api.websocket import MAX_ID_CHARACTERS, MAX_MESSAGE_BYTES, MAX_OPERATIONS
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey
from tests.doors.graphql.client import (
    PROMPT,
    Socket,
    browser,
    ended,
    payload,
    raw_socket,
    said,
    socket,
    talk,
    used,
    witness,
)
from tests.doors.graphql.test_sse import ADD, customer
from tests.doors.site import Site

pytestmark = pytest.mark.usefixtures("talker")


async def events(opened: Socket, id: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that answer the operation, to its end."""
    await opened.tell(id=id, type="subscribe", payload=body)
    heard = [await opened.hear()]
    while heard[-1]["type"] == "next":
        heard.append(await opened.hear())
    assert {message["id"] for message in heard} == {id}
    return heard


async def test_a_stream_is_chunks_in_order_and_then_the_settled_invocation(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        *chunks, last, end = await events(opened, "1", talk(max_tokens=4))

    assert [chunk["payload"]["data"]["invokeModel"]["sequence"] for chunk in chunks] == [0, 1, 2, 3]
    assert "".join(said(chunk["payload"]) for chunk in chunks) == "word1 word2 word3 word4 "
    assert payload(last["payload"])["invocation"]["units"] == str(4 + len(PROMPT))
    assert end == {"id": "1", "type": "complete"}


async def test_the_key_may_come_with_the_handshake(site: Site) -> None:
    async with socket(site, additional_headers=site.headers("subscriber")) as opened:
        *_chunks, last, _end = await events(opened, "1", talk(max_tokens=1))

    assert payload(last["payload"])["errors"] == []


async def test_queries_and_mutations_are_one_event(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        assert await events(opened, "q", {"query": "{ viewer { role } }"}) == [
            {"id": "q", "type": "next", "payload": {"data": {"viewer": {"role": "DEVELOPER"}}}},
            {"id": "q", "type": "complete"},
        ]
        (answer, _end) = await events(opened, "m", {"query": ADD})
        assert answer["payload"]["data"]["invokeModel"]["invocation"] == {"outputs": [{"data": [3]}]}


async def test_several_operations_share_a_socket(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        for id in ("a", "b"):
            await opened.tell(id=id, type="subscribe", payload=talk(max_tokens=10, pause=0.02))
        heard = []
        while sum(message["type"] == "complete" for message in heard) < 2:
            heard.append(await opened.hear())

    ids = [message["id"] for message in heard]
    assert sorted(ids) == ["a"] * 12 + ["b"] * 12
    assert ids != sorted(ids), "one after another"


async def test_complete_stops_the_model_and_charges_what_was_delivered(site: Site, tmp_path: Path) -> None:
    key = customer(site)

    async with socket(site, site.headers(key)) as opened:
        await opened.tell(id="1", type="subscribe", payload=talk(witness=str(tmp_path / "note"), pause=0.02))
        for _chunk in range(3):
            await opened.hear()
        await opened.tell(id="1", type="complete")
        hold = await asyncio.to_thread(ended, site, key)
        said_by_then = await asyncio.to_thread(witness, tmp_path / "note")
        # What had been sent before the model was stopped has now been heard as well.
        await opened.tell(type="ping")
        while (await opened.hear())["type"] != "pong":
            pass
        *_chunks, last, _end = await events(opened, "2", talk(max_tokens=1))

    assert 2 + len(PROMPT) <= hold.charged <= said_by_then + len(PROMPT)
    assert payload(last["payload"])["errors"] == []


async def test_whoever_hangs_up_stops_the_model_and_is_charged_what_they_got(site: Site, tmp_path: Path) -> None:
    key = customer(site)

    async with socket(site, site.headers(key)) as opened:
        await opened.tell(id="1", type="subscribe", payload=talk(witness=str(tmp_path / "note"), pause=0.02))
        for _chunk in range(3):
            await opened.hear()
        opened.connection.transport.abort()

    said_by_then = await asyncio.to_thread(witness, tmp_path / "note")
    charged = (await asyncio.to_thread(ended, site, key)).charged
    assert 2 + len(PROMPT) <= charged <= said_by_then + len(PROMPT)
    assert used(site, key) == (charged, 0)


@pytest.mark.parametrize("document", ["subscription { nothing }", "{", "{ a: nothing }"])
async def test_what_is_refused_before_execution_is_an_error(site: Site, document: str) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        (refused,) = await events(opened, "1", {"query": document})

    assert refused["type"] == "error"
    assert refused["payload"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_an_expected_failure_is_a_payload(site: Site) -> None:
    async with socket(site, site.headers("stranger")) as opened:
        refused, end = await events(opened, "1", talk())

    assert [error["__typename"] for error in payload(refused["payload"])["errors"]] == ["SubscriptionRequired"]
    assert end["type"] == "complete"


async def test_nobody_may_look_around_but_streams_nothing(site: Site) -> None:
    async with socket(site) as opened:
        seen, _end = await events(opened, "1", {"query": '{ model(ref: "openlab/talker") { ref } viewer { role } }'})
        assert seen["payload"] == {"data": {"model": {"ref": "openlab/talker"}, "viewer": None}}
        (refused,) = await events(opened, "2", talk())

    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")


async def test_a_key_revoked_on_the_way_is_refused_from_the_next_operation_on(site: Site) -> None:
    key = customer(site)

    async with socket(site, site.headers(key)) as opened:
        await opened.tell(id="1", type="subscribe", payload=talk(max_tokens=30, pause=0.01))
        heard = [await opened.hear()]
        site.records(lambda: ApiKey.objects.filter(digest=keys.digest(key)).update(revoked_at="2020-01-01T00:00Z"))
        while heard[-1]["type"] == "next":
            heard.append(await opened.hear())
        (refused,) = await events(opened, "2", talk())

    assert payload(heard[-2]["payload"])["invocation"]["units"] == str(30 + len(PROMPT))
    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")


async def test_a_page_of_this_site_speaks_for_its_session_and_no_other_page_does(site: Site) -> None:
    async with browser(site) as visitor:
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}
        async with socket(site, additional_headers=cookies | {"Origin": site.url}) as opened:
            *_chunks, last, _end = await events(opened, "1", talk(max_tokens=1))
            assert payload(last["payload"])["errors"] == []
        for elsewhere in ({"Origin": "https://elsewhere.example"}, {}):
            async with raw_socket(site, additional_headers=cookies | elsewhere) as opened:
                await opened.tell(type="connection_init")
                assert await opened.closed() == (4403, "Forbidden")


async def test_a_session_that_ended_is_nobody_from_the_next_operation_on(site: Site) -> None:
    async with browser(site) as visitor:
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}
        async with socket(site, additional_headers=cookies | {"Origin": site.url}) as opened:
            seen, _end = await events(opened, "1", {"query": "{ viewer { role } }"})
            assert seen["payload"]["data"]["viewer"] == {"role": "OWNER"}
            await visitor.post("/accounts/logout/", headers={"X-CSRFToken": visitor.cookies["csrftoken"]})
            seen, _end = await events(opened, "2", {"query": "{ viewer { role } }"})

    assert seen["payload"]["data"]["viewer"] is None


@pytest.mark.parametrize("who", ["revoked", "expired", "nonsense"])
async def test_a_key_that_is_not_valid_is_forbidden(site: Site, who: str) -> None:
    async with raw_socket(site) as opened:
        await opened.tell(type="connection_init", payload=site.headers(who))

        assert await opened.closed() == (4403, "Forbidden")


async def test_a_socket_that_never_begins_is_closed(site: Site) -> None:
    async with raw_socket(site) as opened:
        assert await opened.closed() == (4408, "Connection initialisation timeout")


async def test_an_operation_before_the_acknowledgement_is_unauthorized(site: Site) -> None:
    async with raw_socket(site) as opened:
        await opened.tell(id="1", type="subscribe", payload=talk())

        assert await opened.closed() == (4401, "Unauthorized")


async def test_beginning_twice_is_too_often(site: Site) -> None:
    async with socket(site) as opened:
        await opened.tell(type="connection_init")

        assert await opened.closed() == (4429, "Too many initialisation requests")


async def test_an_id_names_one_operation_at_a_time(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        for _time in range(2):
            await opened.tell(id="1", type="subscribe", payload=talk())

        assert await opened.closed() == (4409, "Subscriber for 1 already exists")


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        "[]",
        "5",
        "{}",
        '{"type": "unheard-of"}',
        '{"type": ["ping"]}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": []}',
        '{"type": "subscribe", "id": "1", "payload": {}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }", "variables": []}}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "%s", "payload": {"query": "{ __typename }"}}' % ("x" * (MAX_ID_CHARACTERS + 1)),
        '{"type": "complete"}',
        '{"type": "ping", "payload": 5}',
        '{"type": "ping", "payload": {"a": NaN}}',
        "[" * 100_000,
        b"bytes",
    ],
)
async def test_a_message_that_is_none_closes_the_socket(site: Site, message: str | bytes) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        await opened.connection.send(message)

        code, reason = await opened.closed()
        assert code == 4400
        assert reason


async def test_a_message_that_is_too_big_closes_the_socket(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        await opened.tell(type="ping", payload={"a": "x" * MAX_MESSAGE_BYTES})

        code, _reason = await opened.closed()
        assert code == 1009


async def test_pings_are_answered_with_what_they_carry(site: Site) -> None:
    async with raw_socket(site) as opened:
        await opened.tell(type="ping")
        assert await opened.hear() == {"type": "pong"}
        await opened.tell(type="connection_init")
        assert await opened.hear() == {"type": "connection_ack"}
        await opened.tell(type="pong")
        await opened.tell(type="ping", payload={"a": 1})
        assert await opened.hear() == {"type": "pong", "payload": {"a": 1}}


async def test_operations_under_way_are_bounded(site: Site) -> None:
    async with socket(site, site.headers("subscriber")) as opened:
        for number in range(MAX_OPERATIONS):
            await opened.tell(id=str(number), type="subscribe", payload=talk(pause=10))

        (refused,) = await events(opened, "more", {"query": "{ __typename }"})

    assert refused["payload"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_another_subprotocol_is_not_acceptable(site: Site) -> None:
    for subprotocols in (["graphql-ws"], None):
        async with raw_socket(site, subprotocols=subprotocols) as opened:
            assert await opened.closed() == (4406, "Subprotocol not acceptable")


async def test_there_is_no_socket_elsewhere(site: Site) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with raw_socket(site, "/elsewhere"):
            pass

    assert refused.value.response.status_code == HTTPStatus.FORBIDDEN


async def test_a_server_that_ends_lets_a_stream_finish_and_says_that_it_restarts(site: Site) -> None:
    with site.another_server() as server:
        async with socket(server, site.headers("subscriber")) as opened:
            await opened.tell(id="1", type="subscribe", payload=talk(max_tokens=50, pause=0.02))
            heard = [await opened.hear()]
            server.process.send_signal(signal.SIGTERM)
            while heard[-1]["type"] == "next":
                heard.append(await opened.hear())

            assert payload(heard[-2]["payload"])["invocation"]["units"] == str(50 + len(PROMPT))
            assert await opened.closed() == (1012, "Service Restart")


async def test_a_server_that_ends_closes_sockets_on_which_nothing_happens(site: Site) -> None:
    with site.another_server() as server:
        async with socket(server) as opened:
            server.process.send_signal(signal.SIGTERM)

            assert await opened.closed() == (1012, "Service Restart")
