"""ASGI below any framework: bodies within their bounds, keys, and callers who hang up."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from marketplace.edge import Message, bearer, body, refuse_body, unless_gone
from marketplace.errors import PayloadTooLarge, Unauthenticated


class Caller:
    """Sends these messages and then nothing more; keeps what it was answered."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)
        self.taken = 0
        self.answered: list[Message] = []
        self.leaves = asyncio.Event()

    async def receive(self) -> Message:
        message = next(self._messages, None)
        if message is None:
            await self.leaves.wait()
            return {"type": "http.disconnect"}
        self.taken += 1
        return message

    async def send(self, message: Message) -> None:
        self.answered.append(message)


def parts(*contents: bytes) -> list[Message]:
    last = len(contents) - 1
    return [
        {"type": "http.request", "body": content, "more_body": position < last}
        for position, content in enumerate(contents)
    ]


@pytest.mark.parametrize("contents", [(b"",), (b"whole",), (b"in ", b"", b"parts")])
async def test_a_body_is_its_parts(contents: tuple[bytes, ...]) -> None:
    assert await body(Caller(parts(*contents)).receive, 8) == b"".join(contents)


async def test_a_body_that_is_too_large_is_read_no_further() -> None:
    caller = Caller(parts(b"1234", b"56789", b"more"))

    with pytest.raises(PayloadTooLarge):
        await body(caller.receive, 8)

    assert caller.taken == 2


async def test_a_body_whose_caller_hangs_up_is_none() -> None:
    caller = Caller(parts(b"1234", b"5678")[:1])
    caller.leaves.set()

    assert await body(caller.receive, 8) is None


async def test_who_is_refused_while_sending_is_listened_to_so_that_they_hear_it() -> None:
    caller = Caller(parts(b"a", b"b", b"c"))

    await refuse_body(caller.receive, caller.send, 413, [], b"no")

    assert caller.taken == 3
    assert [message.get("body") for message in caller.answered] == [None, b"no", b""]
    assert (b"connection", b"close") in caller.answered[0]["headers"]


async def test_work_for_a_caller_who_stays_is_done() -> None:
    async def work() -> str:
        return "done"

    assert await unless_gone(Caller([]).receive, work()) == "done"


async def test_work_for_a_caller_who_hangs_up_is_cancelled() -> None:
    caller = Caller([])
    cancelled = asyncio.Event()

    async def work() -> None:
        caller.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    assert await unless_gone(caller.receive, work()) is None
    assert cancelled.is_set()


async def test_who_is_cancelled_themselves_hears_of_it() -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(unless_gone(Caller([]).receive, work()))
    await began.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("header", "secret"), [(None, None), ("Bearer key", "key"), ("bearer  key ", "key"), ("BEARER key", "key")]
)
def test_a_key_comes_as_a_bearer_token(header: str | None, secret: str | None) -> None:
    assert bearer(header) == secret


@pytest.mark.parametrize("header", ["", "key", "Bearer", "Bearer  ", "Basic key"])
def test_any_other_scheme_is_refused(header: Any) -> None:
    with pytest.raises(Unauthenticated):
        bearer(header)
