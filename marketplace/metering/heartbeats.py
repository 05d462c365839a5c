"""What runs longer than its lease stays admitted for as long as its process lives, and no longer.

One timer for each event loop: a call that ends before its first beat costs two operations on a dictionary.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from time import monotonic
from typing import LiteralString, Self
from uuid import UUID
from weakref import WeakKeyDictionary

from django.utils.translation import gettext as _

from marketplace.errors import ModelUnavailable

from .admission import LEASE_SECONDS
from .connections import connection

log = logging.getLogger(__name__)

# Two beats may fail before a lease ends.
BEAT_SECONDS = LEASE_SECONDS / 3

EXTEND: LiteralString = "SELECT metering_extend(%s::uuid[], %s)"


class beating:
    """Extends a hold until its call ends: `with beating(hold_id) as beat:`, and `with beat.awaiting():` in it.

    What is awaited in there is cancelled, and ModelUnavailable raised, when the hold has expired all the same (its
    answer could no longer be charged, and so must not be delivered) or the model was taken down.
    """

    def __init__(self, hold_id: UUID) -> None:
        self.hold_id = hold_id
        self.due = 0.0
        self._ended: ModelUnavailable | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False

    def __enter__(self) -> Self:
        self.due = monotonic() + BEAT_SECONDS
        _heart().add(self)
        return self

    def __exit__(self, *_raised: object) -> None:
        _heart().remove(self)

    @contextlib.contextmanager
    def awaiting(self) -> Iterator[None]:
        if self._ended is not None:
            raise self._ended
        task = self._task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            yield
        except asyncio.CancelledError as error:
            if self._uncancel(task) <= cancelling and self._ended is not None:
                raise self._ended from error
            raise
        else:
            self._uncancel(task)
        finally:
            self._task = None

    def end(self, because: ModelUnavailable) -> None:
        """Cancels what is awaited, and has `because` raised there; with nothing awaited, where something next is."""
        self._ended = because
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _uncancel(self, task: "asyncio.Task[object]") -> int:
        if not self._cancelled:
            return task.cancelling()
        self._cancelled = False
        return task.uncancel()


def end_all(because: ModelUnavailable) -> None:
    """Ends every call that this event loop has under way: what is asked for answers `because`."""
    for each in _heart().under_way():
        each.end(because)


def _lost() -> ModelUnavailable:
    return ModelUnavailable(
        _("The call was stopped: it lost the units set aside for it, or its model was taken down. Try again."),
        retry_after_ms=1000,
    )


class _Heart:
    """This event loop's."""

    def __init__(self) -> None:
        self._beating: dict[UUID, beating] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._extending: asyncio.Task[None] | None = None

    def add(self, each: beating) -> None:
        self._beating[each.hold_id] = each
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def remove(self, each: beating) -> None:
        self._beating.pop(each.hold_id, None)

    def under_way(self) -> list[beating]:
        return list(self._beating.values())

    def _beat(self) -> None:
        now = monotonic()
        due = [each for each in self._beating.values() if each.due <= now]
        if due and (self._extending is None or self._extending.done()):
            self._extending = asyncio.ensure_future(self._extend(due))
        # A quarter of a beat late at most.
        again = BEAT_SECONDS / 4
        self._timer = asyncio.get_running_loop().call_later(again, self._beat) if self._beating else None

    async def _extend(self, due: list[beating]) -> None:
        try:
            async with connection() as db:
                row = await (await db.execute(EXTEND, ([each.hold_id for each in due], LEASE_SECONDS))).fetchone()
        except ModelUnavailable as error:
            log.warning("%d calls under way cannot be extended just now: %s", len(due), error)
            return
        except Exception:
            log.exception("%d calls under way cannot be extended", len(due))
            return
        assert row is not None
        for each, held in zip(due, row[0], strict=True):
            each.due = monotonic() + BEAT_SECONDS
            if not held and each.hold_id in self._beating:
                each.end(_lost())


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Heart] = WeakKeyDictionary()


def _heart() -> _Heart:
    loop = asyncio.get_running_loop()
    heart = _by_loop.get(loop)
    if heart is None:
        heart = _by_loop[loop] = _Heart()
    return heart
