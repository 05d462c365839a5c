"""Text as it is written, by server-sent events: the same text, counted once, and charged for what was delivered."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from marketplace.catalog.models import ModelVersion
from marketplace.metering.models import Hold
from tests.doors.openai.conftest import AsyncClient, Client
from tests.doors.openai.requests import error_of, post
from tests.doors.site import Site
from tests.inference.processes import paused

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
PATIENCE = 20
# More than is written while somebody looks: nobody waits for its end. At this temperature it does not end by itself.
LONG = 4000
ENDLESS = {"messages": HELLO, "temperature": 0}


def test_the_pieces_are_the_whole(client: Client, babbler: str) -> None:
    options = {"model": babbler, "messages": HELLO, "temperature": 0, "max_tokens": 60, "stop": "Im"}
    whole = client().chat.completions.create(**options)  # type: ignore[call-overload]

    chunks = list(client().chat.completions.create(**options, stream=True))  # type: ignore[call-overload]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert len(chunks) > 10
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in chunks[1:]] == [None] * (len(chunks) - 1)
    finish = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finish == [None] * (len(chunks) - 1) + [whole.choices[0].finish_reason]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_it_begins_with_when_its_model_ends(site: Site, client: Client, babbler: str) -> None:
    customer = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100)
    site.records(lambda: ModelVersion.objects.filter(model__name="babbler").update(deprecated_at=datetime.now(UTC)))
    try:
        options = {"model": babbler, "messages": HELLO, "temperature": 0, "max_tokens": 5, "stream": True}
        answer = client(customer).chat.completions.with_raw_response.create(**options)  # type: ignore[call-overload]
        assert re.fullmatch(r"@\d+", answer.headers["deprecation"])
        list(answer.parse())
    finally:
        site.records(lambda: ModelVersion.objects.filter(model__name="babbler").update(deprecated_at=None))


def test_a_text_comes_in_pieces_too(client: Client, babbler: str) -> None:
    options = {"model": babbler, "prompt": "Once upon", "temperature": 0, "max_tokens": 30}
    whole = client().completions.create(**options)  # type: ignore[call-overload]

    chunks = list(client().completions.create(**options, stream=True))  # type: ignore[call-overload]

    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert {chunk.object for chunk in chunks} == {"text_completion"}


async def test_usage_comes_last_and_is_what_is_charged(site: Site, async_client: AsyncClient, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100, included_units=1000)

    stream = await async_client(key).chat.completions.create(
        model=babbler, messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert last.usage.completion_tokens == 12
    (hold,) = site.holds(key)
    assert (hold.state, hold.charged) == ("settled", last.usage.total_tokens)
    assert last.id == f"chatcmpl-{hold.pk}"


def test_the_events_as_they_are_sent(site: Site, babbler: str) -> None:
    body = {"model": babbler, "messages": HELLO, "max_tokens": 3, "stream": True}

    answer = post(site, "chat/completions", body)

    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(set(json.loads(event.removeprefix("data: "))) >= {"id", "choices"} for event in events)


def test_what_is_refused_before_the_first_piece_has_its_status(site: Site, client: Client, babbler: str) -> None:
    body = {"model": babbler, "messages": HELLO, "stream": True}

    assert error_of(post(site, "chat/completions", body, "stranger")) == (403, "model", "subscription_required")
    with pytest.raises(openai.BadRequestError) as refused:
        client().chat.completions.create(
            model=babbler, messages=[{"role": "user", "content": "a " * 5000}], stream=True
        )
    assert refused.value.param == "messages"


def test_an_idempotency_key_gives_the_same_stream_again(site: Site, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100, included_units=1000)
    body = {
        "model": babbler,
        "messages": HELLO,
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    def contents() -> list[tuple[object, object]]:
        text = post(site, "chat/completions", body, key, idempotency_key="one").text
        events = [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]
        return [(event["id"], event["choices"]) for event in events]

    assert contents() == contents()
    assert len(site.holds(key)) == 1


class TestLeaving:
    """A caller who leaves stops the model, and is charged what was delivered."""

    @pytest.fixture
    def key(self, site: Site, babbler: str) -> str:
        return site.customer(babbler, unit="TOKEN", max_tokens_per_call=LONG, included_units=10 * LONG)

    def test_in_the_middle_of_a_stream(self, site: Site, client: Client, babbler: str, key: str) -> None:
        stream = client(key).chat.completions.create(model=babbler, messages=HELLO, temperature=0, stream=True)
        prompt = 21
        for _ in range(3):
            next(stream)
        stream.close()

        hold = ended(site, key)

        assert hold.state == "settled"
        assert prompt + 3 <= hold.charged < LONG

    async def test_in_the_middle_of_a_stream_without_blocking(
        self, site: Site, async_client: AsyncClient, babbler: str, key: str
    ) -> None:
        stream = await async_client(key).chat.completions.create(
            model=babbler, messages=HELLO, temperature=0, stream=True
        )
        await anext(aiter(stream))
        await stream.close()

        hold = ended(site, key)
        assert hold.state == "settled"
        assert 0 < hold.charged < LONG

    def test_before_an_answer_in_one_piece(self, site: Site, babbler: str, key: str) -> None:
        with sent(site, key, {"model": babbler, **ENDLESS}):
            until(lambda: bool(site.holds(key)))

        hold = ended(site, key)
        assert (hold.state, hold.charged, hold.released_because) == ("released", 0, "CANCELLED")

    def test_without_reading_anything(self, site: Site, babbler: str, key: str) -> None:
        with (
            paused(site.version(babbler).triton_name),
            sent(site, key, {"model": babbler, **ENDLESS, "stream": True}),
        ):
            until(lambda: bool(site.holds(key)))

        hold = ended(site, key)
        assert (hold.state, hold.charged, hold.released_because) == ("released", 0, "CANCELLED")


def test_a_deadline_in_the_middle_is_an_event_of_its_own(site: Site, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=LONG, included_units=10 * LONG)
    with site.another_server(GENERATION_TIMEOUT_SECONDS="3") as server:
        ours = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        with ours, ours.chat.completions.create(model=babbler, messages=HELLO, temperature=0, stream=True) as stream:
            next(stream)
            with paused(site.version(babbler).triton_name), pytest.raises(openai.APIError) as failed:
                list(stream)

    assert (failed.value.code, failed.value.type) == ("deadline_exceeded", "server_error")
    hold = ended(site, key)
    # What was delivered until then is charged.
    assert hold.state == "settled"
    assert 0 < hold.charged < LONG


@contextmanager
def sent(site: Site, key: str, body: object) -> Iterator[None]:
    """A request whose caller hangs up at the end."""
    content = json.dumps(body).encode()
    host, _colon, port = site.http.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"Host: {site.http}\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + content)
        yield


def ended(site: Site, key: str) -> Hold:
    """The key's one call, once it has come to its end."""
    until(lambda: [hold.state in ("settled", "released") for hold in site.holds(key)] == [True])
    return site.holds(key)[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
