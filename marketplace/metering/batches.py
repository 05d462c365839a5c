"""Callers that wait while PostgreSQL is busy with others share its next round trip.

One lane per kind of call and event loop: a task takes whoever waits, a tenant at a time, and asks for all of them at
once. A call that finds nobody waiting goes at once, alone. Nothing is ever delayed so that a batch may grow.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar
from uuid import UUID

import psycopg
from django.utils.translation import gettext as _

from marketplace.errors import ModelUnavailable

from .connections import WAIT_SECONDS, connection, gives_up_at, out_of_reach

# A batch this large takes PostgreSQL some 5 ms: larger ones gain little and make everybody wait.
MOST_AT_ONCE = 64
MOST_WAITING = 2048

Question = tuple[Any, ...]
Answer = TypeVar("Answer")


def arrays(questions: Sequence[Question]) -> list[str]:
    """The questions' columns, as PostgreSQL's literals for arrays: psycopg takes four times as long to write lists."""
    return ["{" + ",".join(map(_element, column)) + "}" for column in zip(*questions, strict=True)]


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return str(value)


class _Refused(Exception):
    """PostgreSQL refused the batch as a whole, and nothing of it happened."""


async def ask_one_by_one_if_need_be(
    ask: Callable[[psycopg.AsyncConnection[Any], Sequence[Question]], Awaitable[Sequence[Answer]]],
    questions: Sequence[Question],
) -> list[Answer | BaseException]:
    """One transaction for all; when it fails for one of them (bad data, a lock that somebody sits on), one for each.

    Each answer in its question's place, or the exception that this question alone raises.
    """
    try:
        async with connection() as db:
            try:
                if len(questions) == 1:
                    # Of a busy disk, a commit may take longer than the limit: once more.
                    with suppress(psycopg.errors.LockNotAvailable):
                        return list(await ask(db, questions))
                return list(await ask(db, questions))
            except psycopg.Error as error:
                # Without its connection, nobody knows what has happened: nothing may be asked again.
                if db.closed or len(questions) == 1:
                    raise
                raise _Refused from error
    except _Refused:
        alone = (ask_one_by_one_if_need_be(ask, [question]) for question in questions)
        answers = await asyncio.gather(*alone)
        return [answer for (answer,) in answers]
    except Exception as error:
        return [error] * len(questions)


class Lane(Generic[Answer]):
    """`ask` answers many questions in one round trip. `abandoned` hears each answer that nobody waits for any more."""

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | BaseException]]],
        abandoned: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> None:
        self._ask = ask
        self._abandoned = abandoned
        # By tenant, in the order in which their turns come.
        self._queues: dict[UUID | None, deque[tuple[Question, asyncio.Future[Answer]]]] = {}
        self._waiting = 0
        self._draining: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, tenant: UUID | None, question: Question) -> Answer:
        """Raises ModelUnavailable when too many wait, or when PostgreSQL is away or too busy."""
        self._make_room(tenant)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append((question, future))
        self._waiting += 1
        if self._draining is None:
            self._draining = self._start(self._drain())
        patience = _Patience(future)
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled between the answer and its arrival here: it has come, and nobody will know.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._abandon(future.result())
            raise
        finally:
            patience.end()

    async def idle(self) -> None:
        """Returns once nothing is under way, what is done about abandoned answers included."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _make_room(self, tenant: UUID | None) -> None:
        """When all places are taken, whoever has most callers waiting loses the latest of them."""
        if self._waiting < MOST_WAITING:
            return
        longest = max(self._queues, key=lambda key: len(self._queues[key]))
        if len(self._queues.get(tenant, ())) + 1 >= len(self._queues[longest]):
            raise _too_many()
        _question, future = self._queues[longest].pop()
        self._waiting -= 1
        if not future.done():
            future.set_exception(_too_many())

    def _take(self) -> list[tuple[Question, "asyncio.Future[Answer]"]]:
        """The next batch: one caller of each tenant, then another of each, as far as it goes."""
        batch: list[tuple[Question, asyncio.Future[Answer]]] = []
        while self._queues and len(batch) < MOST_AT_ONCE:
            tenant = next(iter(self._queues))
            queue = self._queues.pop(tenant)
            if queue:
                waiter = queue.popleft()
                self._waiting -= 1
                if not waiter[1].done():
                    batch.append(waiter)
            if queue:
                self._queues[tenant] = queue
        return batch

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                # Not cancelled when it takes too long: what it does may have happened, and is to be heard of.
                await asyncio.wait({self._start(self._run(batch))}, timeout=WAIT_SECONDS)
        finally:
            self._draining = None

    async def _run(self, batch: list[tuple[Question, "asyncio.Future[Answer]"]]) -> None:
        answers = await self._ask([question for question, _future in batch])
        for (_question, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, BaseException):
                if not future.done():
                    future.set_exception(answer)
            elif future.done():
                self._abandon(answer)
            else:
                future.set_result(answer)

    def _abandon(self, answer: Answer) -> None:
        if self._abandoned is not None:
            self._start(self._abandoned(answer))

    def _start(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Patience:
    """A caller's, who hears that PostgreSQL is out of reach when it ends."""

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self._future = future
        self._loop = future.get_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_at(gives_up_at(self._began), self._look)

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._future.done():
            return
        if (until := gives_up_at(self._began)) > self._loop.time():
            self._timer = self._loop.call_at(until, self._look)
        else:
            self._future.set_exception(out_of_reach())


def _too_many() -> ModelUnavailable:
    return ModelUnavailable(
        _("More calls are waiting than can be answered soon. Try again in a moment."), retry_after_ms=500
    )
