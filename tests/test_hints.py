"""Hints: what was found last, bounded in number and age, and looked up once for all who ask at the same time."""

import asyncio

import pytest

from marketplace import hints
from marketplace.hints import Hints


class Records:
    """Answers lookups once it is told to, and counts them."""

    def __init__(self, answer: int | None = 1) -> None:
        self.answer = answer
        self.lookups = 0
        self.open = asyncio.Event()

    async def look_up(self) -> int | None:
        self.lookups += 1
        await self.open.wait()
        if self.answer == 0:
            raise LookupError
        return self.answer


async def test_what_was_found_is_not_looked_up_again() -> None:
    known, records = Hints[str, int](most=10, seconds=60), Records()
    records.open.set()

    assert [await known.find("a", records.look_up) for _ in range(3)] == [1, 1, 1]
    assert records.lookups == 1


async def test_whoever_asks_meanwhile_waits_for_the_same_lookup() -> None:
    known, records = Hints[str, int](most=10, seconds=60), Records()
    asking = [asyncio.ensure_future(known.find("a", records.look_up)) for _ in range(5)]
    await asyncio.sleep(0)

    records.open.set()

    assert await asyncio.gather(*asking) == [1] * 5
    assert records.lookups == 1


async def test_whoever_goes_away_takes_the_lookup_from_nobody() -> None:
    known, records = Hints[str, int](most=10, seconds=60), Records()
    first, second = (asyncio.ensure_future(known.find("a", records.look_up)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    records.open.set()

    assert await second == 1
    assert first.cancelled()


@pytest.mark.parametrize("answer", [None, 0])
async def test_what_is_not_there_and_what_failed_are_looked_up_again(answer: int | None) -> None:
    known, records = Hints[str, int](most=10, seconds=60), Records(answer)
    records.open.set()

    for _ in range(2):
        await asyncio.gather(known.find("a", records.look_up), return_exceptions=True)

    assert records.lookups == 2


async def test_the_oldest_goes_first_and_what_was_asked_for_stays() -> None:
    known = Hints[str, int](most=2, seconds=60)
    known.put("a", 1)
    known.put("b", 2)
    known.get("a")

    known.put("c", 3)

    assert [known.get(key) for key in "abc"] == [1, None, 3]


async def test_what_is_too_old_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(hints, "monotonic", lambda: moment)
    known = Hints[str, int](most=2, seconds=1)
    known.put("a", 1)

    moment = 101.0
    assert known.get("a") == 1
    moment = 101.5
    assert known.get("a") is None
