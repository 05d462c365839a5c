"""What was found last, so that it need not be looked up again before PostgreSQL is asked in any case.

Hints decide nothing: whoever acts on one has it confirmed where the decision is made, and looks things up if it fails.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Hints(Generic[K, V]):
    """At most `most`, none older than `seconds`; what was not asked for the longest goes first."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._found: dict[K, tuple[float, V]] = {}
        self._lookups: dict[tuple[asyncio.AbstractEventLoop, K], asyncio.Task[V | None]] = {}

    def get(self, key: K) -> V | None:
        known = self._found.pop(key, None)
        if known is None or monotonic() - known[0] > self._seconds:
            return None
        self._found[key] = known
        return known[1]

    def put(self, key: K, value: V) -> None:
        self._found.pop(key, None)
        if len(self._found) >= self._most:
            del self._found[next(iter(self._found))]
        self._found[key] = (monotonic(), value)

    def forget(self, key: K) -> None:
        self._found.pop(key, None)

    async def find(self, key: K, look_up: Callable[[], Awaitable[V | None]]) -> V | None:
        """The hint or, without one, what is looked up once for all who ask meanwhile. None, what is not there, is
        not remembered."""
        known = self.get(key)
        if known is not None:
            return known
        place = (asyncio.get_running_loop(), key)
        lookup = self._lookups.get(place)
        if lookup is None:
            # A task of its own: a caller who goes away takes it from nobody else.
            lookup = self._lookups[place] = asyncio.ensure_future(self._look_up(key, look_up))
            lookup.add_done_callback(lambda done: self._ended(place, done))
        return await asyncio.shield(lookup)

    def _ended(self, place: tuple[asyncio.AbstractEventLoop, K], lookup: "asyncio.Task[V | None]") -> None:
        del self._lookups[place]
        if not lookup.cancelled():
            lookup.exception()  # whoever asked may have gone, and then nobody else hears of it

    async def _look_up(self, key: K, look_up: Callable[[], Awaitable[V | None]]) -> V | None:
        value = await look_up()
        if value is not None:
            self.put(key, value)
        return value
