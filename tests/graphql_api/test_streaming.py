"""What a stream costs whoever does not read it: nothing is asked of the model before what it said has been taken."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

import inference.invocation
from graphql_api import sse, websocket
from graphql_api.context import Context
from graphql_api.execution import Answer, answers, opened
from graphql_api.websocket import Sockets
from inference.invocation import Chunk
from inference.tensors import Datatype, Tensor
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import ModelVersion

ACME = Principal(tenant_id=UUID(int=1), group_id=1, role=TenantRole.DEVELOPER)
STREAM = """subscription {
  invokeModel(input: {model: "openlab/talker", inputs: []}) { ... on InvocationChunk { sequence } }
}"""
VERSION = ModelVersion()
# More than whatever is between two ends may hold of it.
MANY = 100


class Talker:
    """Stands for `inference.invocation.stream`: counts what is asked of it, and whether it was closed."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = asyncio.Event()
        self.silent = False

    async def stream(self, _principal: Principal, **_call: Any) -> AsyncGenerator[Chunk]:
        try:
            while not self.silent:
                self.asked += 1
                yield Chunk((Tensor("text", Datatype.BYTES, (1,), b"\x01\0\0\0a"),), UUID(int=2), VERSION)
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.fixture
def talker(monkeypatch: pytest.MonkeyPatch) -> Talker:
    found = Talker()

    async def nothing() -> None:
        pass

    async def as_acme(request: Any) -> Context:
        return Context(request, ACME)

    monkeypatch.setattr(inference.invocation, "stream", found.stream)
    monkeypatch.setattr("graphql_api.invocation.hand_back_connection", nothing)
    monkeypatch.setattr(websocket, "hand_back_connection", nothing)
    monkeypatch.setattr(websocket, "context_of", as_acme)
    return found


def streamed() -> AsyncGenerator[Answer]:
    request: Any = SimpleNamespace(headers={})
    return answers(Context(request, ACME), opened(STREAM))


async def test_events_are_made_as_they_are_taken(talker: Talker) -> None:
    async with aclosing(sse.events(streamed())) as events:
        first = await anext(events)
        for _turn in range(MANY):
            await asyncio.sleep(0)
        assert talker.asked == 1
        await anext(events)
        assert talker.asked == 2

    assert json.loads(first.decode().partition("data: ")[2]) == {"data": {"invokeModel": {"sequence": 0}}}
    assert talker.closed.is_set()


async def test_a_silent_stream_is_kept_alive(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.01)
    talker.silent = True

    async with aclosing(sse.events(streamed())) as events:
        assert [await anext(events) for _turn in range(3)] == [sse.KEEP_ALIVE] * 3

    assert talker.closed.is_set()


async def test_a_caller_who_leaves_while_the_model_thinks_ends_it(talker: Talker) -> None:
    talker.silent = True
    events = sse.events(streamed())
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.01)

    waiting.cancel()
    await asyncio.wait({waiting})
    await events.aclose()

    assert talker.closed.is_set()


class Client:
    """The other end of a WebSocket: takes as many messages as it is told to, and then no more."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.taken: list[dict[str, Any]] = []
        self.takes = asyncio.Semaphore(0)
        self._taken = asyncio.Semaphore(0)
        self._sends: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sends.put_nowait({"type": "websocket.connect"})
        for message in messages:
            self.say(message)

    def say(self, message: dict[str, Any]) -> None:
        self._sends.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def leave(self) -> None:
        self._sends.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            await self.takes.acquire()
            self.taken.append(json.loads(message["text"]))
            self._taken.release()

    async def took(self, count: int) -> None:
        for _message in range(count):
            await self._taken.acquire()

    def connect(self) -> "asyncio.Task[None]":
        scope = {
            "type": "websocket",
            "path": "/graphql",
            "headers": [(b"authorization", b"Bearer key")],
            "subprotocols": ["graphql-transport-ws"],
            "query_string": b"",
        }
        return asyncio.ensure_future(Sockets(nowhere)(scope, self._sends.get, self.send))


async def nowhere(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("no WebSocket is handed on")


def subscriber() -> Client:
    return Client({"type": "connection_init"}, {"id": "1", "type": "subscribe", "payload": {"query": STREAM}})


async def test_a_socket_asks_for_no_more_than_is_read(talker: Talker) -> None:
    client = subscriber()
    client.takes.release()
    client.takes.release()
    served = client.connect()
    await client.took(2)
    for _turn in range(MANY):
        await asyncio.sleep(0)

    # The acknowledgement and the first chunk are taken; the second one waits to be.
    assert [message["type"] for message in client.taken] == ["connection_ack", "next"]
    assert talker.asked == 2
    client.leave()
    await served
    assert talker.closed.is_set()


async def test_a_socket_that_nobody_reads_is_given_up(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SECONDS_TO_TAKE", 0.05)
    client = subscriber()
    client.takes.release()

    await client.connect()

    assert talker.asked == 1
    assert talker.closed.is_set()


async def test_an_idle_socket_is_closed_and_one_at_work_is_not(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SECONDS_IDLE", 0.05)
    talker.silent = True
    client = subscriber()
    client.takes.release()
    served = client.connect()

    done, _ = await asyncio.wait({served}, timeout=0.2)
    assert not done
    client.say({"id": "1", "type": "complete"})

    await served
    assert talker.closed.is_set()
