"""Callers that write down what they are about to ask before they ask it, and never let go before they know.

Their journal has a line for each first attempt, on disk before the request leaves, and a line for what came of it.
"""

import asyncio
import base64
import itertools
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from .product import HOST, MODEL

DOCUMENT = """
mutation Call($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { id units outputs { name data } }
    errors { __typename code message path }
  }
}"""
# Nothing in the product keeps a caller this long: it would be a flaw of its own.
LONGEST_SECONDS = 30
AGAIN_SECONDS = 0.3
PATIENCE_SECONDS = 1
HANG_UP_EVERY = 16
LARGEST = 2**20


@dataclass(frozen=True)
class Call:
    """`key` None: without an idempotency key, so it is sent once. Two summands that no other call has."""

    number: int
    key: str | None

    @property
    def summands(self) -> tuple[int, int]:
        return self.number, LARGEST

    @property
    def sum(self) -> int:
        return self.number + LARGEST

    @property
    def body(self) -> dict[str, Any]:
        tensors = [
            {"name": name, "datatype": "FP32", "shape": [1], "data": [number]}
            for name, number in zip("AB", self.summands, strict=True)
        ]
        call = {"model": MODEL, "inputs": tensors} | ({"idempotencyKey": self.key} if self.key else {})
        return {"query": DOCUMENT, "variables": {"input": call}}


class Journal:
    """What was sent and what was heard, as the callers know it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a")

    def close(self) -> None:
        self._file.close()

    def sends(self, call: Call) -> None:
        self._write(number=call.number, key=call.key)

    def heard(self, call: Call, **outcome: Any) -> None:
        self._write(number=call.number, key=call.key, **outcome)

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def lines(self) -> Iterator[dict[str, Any]]:
        with self._path.open() as file:
            yield from map(json.loads, file)


class Broken(Exception):
    """No answer: nobody knows what became of the call."""


class Unexpected(Exception):
    """An answer that no crash excuses."""


class Refused(Exception):
    """The product says that it can do nothing just now, or that the first attempt is still running."""


class Callers:
    """Those with idempotency keys ask until they know; those without ask once, and are in doubt when they hear nothing.

    Some of those with keys hang up as soon as they have asked for the first time.
    """

    def __init__(self, address: tuple[str, int], api_key: str, journal: Journal) -> None:
        self.journal = journal
        self.counts: Counter[str] = Counter()
        # What was killed last: whoever is in doubt writes it down.
        self.latest_kill = "nothing"
        self._address = address
        self._api_key = api_key
        self._numbers = itertools.count(1)
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._asking: set[asyncio.Task[Any]] = set()
        self._one_more = asyncio.Condition()

    @asynccontextmanager
    async def calling(self, *, with_keys: int, without: int) -> AsyncIterator[None]:
        """So many of each kind call without a pause. At the end, each call with a key has been answered for good."""
        everybody = [asyncio.create_task(self._with_keys()) for _ in range(with_keys)]
        everybody += [asyncio.create_task(self._without_keys()) for _ in range(without)]
        try:
            yield
        finally:
            for each in everybody:
                each.cancel()
            results = await asyncio.gather(*everybody, return_exceptions=True)
        await asyncio.gather(*self._asking)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def hear(self, answers: int) -> None:
        """Returns once so many more calls with keys have been answered."""
        enough = self.counts["answered"] + answers
        async with self._one_more:
            await self._one_more.wait_for(lambda: self.counts["answered"] >= enough)

    async def ask_all_again(self) -> None:
        """Each call with a key once more, twenty at a time, now that nothing is being killed."""
        calls = iter({(line["number"], line["key"]) for line in self.journal.lines() if line["key"]})

        async def some() -> None:
            for number, key in calls:
                await self._until_known(Call(number, key))
                self.counts["asked again"] += 1

        await asyncio.gather(*(some() for _ in range(20)))

    async def hang_up(self) -> None:
        for _, writer in self._connections:
            await _dropped(writer)

    async def _with_keys(self) -> None:
        while True:
            call = Call(next(self._numbers), str(uuid4()))
            self.journal.sends(call)
            asking = asyncio.create_task(self._until_known(call, hangs_up=call.number % HANG_UP_EVERY == 0))
            self._asking.add(asking)
            # One whose first attempt was killed is told that it is still running, until its hold expires.
            await asyncio.wait([asking], timeout=PATIENCE_SECONDS)
            if asking.done():
                self._asking.discard(asking)
                asking.result()

    async def _until_known(self, call: Call, *, hangs_up: bool = False) -> None:
        if hangs_up:
            self.counts["hung up"] += 1
            with suppress(OSError):
                _, writer = await self._send(call.body)
                await _dropped(writer)
        while True:
            try:
                invocation, total = await self._ask(call)
                break
            except Broken:
                self.counts["retries after silence"] += 1
            except Refused:
                self.counts["retries after a refusal"] += 1
            await asyncio.sleep(AGAIN_SECONDS)
        self.journal.heard(call, invocation=invocation, sum=total)
        async with self._one_more:
            self.counts["answered"] += 1
            self._one_more.notify_all()

    async def _without_keys(self) -> None:
        while True:
            asking = asyncio.create_task(self.once())
            self._asking.add(asking)
            answered = await asyncio.shield(asking)
            self._asking.discard(asking)
            if not answered:
                await asyncio.sleep(AGAIN_SECONDS)

    async def once(self) -> bool:
        """A call without a key. Whether it was answered."""
        call = Call(next(self._numbers), None)
        self.journal.sends(call)
        try:
            invocation, total = await self._ask(call)
        except (Broken, Refused) as doubt:
            self.journal.heard(call, doubt=type(doubt).__name__, during=self.latest_kill)
            return False
        self.journal.heard(call, invocation=invocation, sum=total)
        return True

    async def _ask(self, call: Call) -> tuple[str, float]:
        """The invocation's id and the sum. Raises Broken, Refused, and Unexpected."""
        self.counts["requests"] += 1
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                answer = await self._post(call.body)
        except TimeoutError:
            raise Unexpected(f"no answer within {LONGEST_SECONDS} s, after {self.latest_kill}") from None
        except (OSError, EOFError, ValueError) as error:
            raise Broken from error
        payload = (answer.get("data") or {}).get("invokeModel") or {}
        if payload.get("invocation"):
            (output,) = payload["invocation"]["outputs"]
            (total,) = output["data"]
            return str(invocation_id(payload["invocation"]["id"])), total
        problems = payload.get("errors") or [error["extensions"] for error in answer["errors"]]
        # A machine that has much to do may load what was killed so slowly that a call's time is up.
        if {problem["code"] for problem in problems} <= {"MODEL_UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            raise Refused
        raise Unexpected(f"{answer} after {self.latest_kill}")

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await self._send(body)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            answer: dict[str, Any] = json.loads(await reader.readexactly(length))
        except BaseException:
            await _dropped(writer)
            raise
        self._connections.append((reader, writer))
        return answer

    async def _send(self, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._connections:
            reader, writer = self._connections.pop()
            if not reader.at_eof() and not writer.is_closing():
                break
            await _dropped(writer)
        else:
            reader, writer = await asyncio.open_connection(*self._address)
        content = json.dumps(body).encode()
        lines = ("POST /graphql HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {self._api_key}")
        head = "\r\n".join([*lines, "Content-Type: application/json", f"Content-Length: {len(content)}", "", ""])
        writer.write(head.encode() + content)
        await writer.drain()
        return reader, writer


async def _dropped(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


def invocation_id(node: str) -> UUID:
    """From GraphQL's global id."""
    return UUID(base64.b64decode(node).decode().partition(":")[2])
