"""What a round makes of what it has read, without a server or a database; and that it does so for many at once."""

from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any
from uuid import UUID

import pytest

from inference.deployment.placement import Row, Seen, Wanted, plan
from inference.gateway import Statistics
from inference.models import DeploymentStatus as Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def wanted(number: int, **fields: Any) -> Wanted:
    return Wanted(
        **{
            "version_id": UUID(int=number),
            "name": f"v{number}",
            "memory_bytes": 100,
            "live": True,
            "releasing": False,
            "kept": False,
            "created_at": NOW - timedelta(days=1),
        }
        | fields
    )


def row(number: int, **fields: Any) -> Row:
    return Row(
        **{
            "pk": number,
            "version_id": UUID(int=number),
            "name": f"v{number}",
            "status": Status.READY,
            "failures": 0,
            "changed_at": NOW - MINUTE,
            "memory_bytes": 100,
            "processes": 0,
            "used_at": None,
            "wanted_at": None,
        }
        | fields
    )


def seen(*names: str, processes: dict[str, int] | None = None) -> Seen:
    return Seen({name: Statistics(name, 1, 0, 0, 0, 0) for name in names}, processes)


def by_id(*versions: Wanted) -> dict[UUID, Wanted]:
    return {version.version_id: version for version in versions}


def test_what_is_loaded_and_runs_is_ready_and_nothing_is_to_do() -> None:
    made = plan(by_id(wanted(1)), [row(1, processes=2)], seen("v1", processes={"v1": 2}), NOW)

    assert made.ready == {UUID(int=1)}
    assert [made.loads, made.leaving, made.chill, made.lost] == [[], [], [], []]


@pytest.mark.parametrize(
    ("status", "found"),
    [
        pytest.param(Status.READY, seen(), id="the server has forgotten it"),
        pytest.param(Status.READY, seen("v1", processes={"v1": 1}), id="one of its processes is gone"),
        pytest.param(Status.PENDING, seen(), id="whoever was loading it has died"),
        pytest.param(Status.FAILED, seen("v1"), id="a caller found it broken"),
        pytest.param(Status.COLD, seen(), id="there is memory for it by now"),
        pytest.param(Status.DRAINING, seen(), id="it was given up, and is wanted after all"),
    ],
)
def test_it_is_loaded_when(status: Status, found: Seen) -> None:
    version = wanted(1)

    made = plan(by_id(version), [row(1, status=status, processes=2)], found, NOW)

    assert made.loads == [version]
    assert not made.ready


def test_nothing_is_done_twice_about_what_is_under_way() -> None:
    made = plan(by_id(wanted(1)), [row(1, status=Status.PENDING)], seen(), NOW, loading={UUID(int=1)})

    assert not made.loads


def test_what_failed_is_tried_again_after_twice_as_long_each_time() -> None:
    failed = row(1, status=Status.FAILED, failures=3, changed_at=NOW - timedelta(seconds=7))
    assert not plan(by_id(wanted(1)), [failed], seen(), NOW).loads
    assert plan(by_id(wanted(1)), [failed], seen(), NOW + timedelta(seconds=1)).loads


def test_releases_come_first_then_what_is_waited_for_then_what_is_live() -> None:
    ready, live, waited = wanted(1, live=False), wanted(2), wanted(3, live=False)
    releasing = wanted(4, live=False, releasing=True)

    made = plan(by_id(ready, live, waited, releasing), [row(3, status=Status.COLD, wanted_at=NOW)], seen(), NOW)

    assert made.loads == [releasing, waited, live, ready]


class TestMemory:
    def test_what_must_stay_does_however_long_it_was_not_used(self) -> None:
        kept, used = wanted(1, kept=True), wanted(2)
        rows = [row(1, used_at=NOW - timedelta(days=9)), row(2, used_at=NOW)]

        made = plan(by_id(kept, used), rows, seen("v1", "v2"), NOW, budget=150)

        assert made.chill == [2]

    def test_what_is_loaded_makes_room_for_nothing_that_nobody_waits_for(self) -> None:
        loaded, cold = wanted(1), wanted(2)
        rows = [row(1, used_at=NOW - 5 * MINUTE), row(2, status=Status.COLD, used_at=NOW - MINUTE)]

        made = plan(by_id(loaded, cold), rows, seen("v1"), NOW, budget=150)

        assert not made.chill
        assert not made.loads

    def test_it_is_loaded_once_there_is_room_and_not_before(self) -> None:
        first, second = wanted(1), wanted(2, releasing=True)
        leaving = row(1, status=Status.DRAINING)

        made = plan(by_id(first, second), [leaving], seen("v1"), NOW, budget=150)
        assert made.leaving == [leaving]
        assert not made.loads

        made = plan(by_id(first, second), [row(1, status=Status.COLD)], seen(), NOW, budget=150)
        assert made.loads == [second]

    def test_what_is_being_loaded_has_its_memory_already(self) -> None:
        made = plan(by_id(wanted(1), wanted(2)), [], seen(), NOW, loading={UUID(int=1)}, budget=150)

        assert not made.loads

    def test_new_settings_of_what_is_in_use_are_loaded_in_place_of_what_is_not(self) -> None:
        changed, other = wanted(1, name="v1-i2"), wanted(2)
        rows = [row(1, used_at=NOW), row(2, used_at=NOW - MINUTE)]

        made = plan(by_id(changed, other), rows, seen("v1", "v2"), NOW, budget=150)

        assert made.chill == [2]
        assert made.ready == {UUID(int=1), UUID(int=2)}

    def test_old_settings_of_what_is_not_in_use_are_given_up_too(self) -> None:
        changed, other = wanted(1, name="v1-i2"), wanted(2)
        rows = [row(1, used_at=NOW - MINUTE), row(2, used_at=NOW)]

        made = plan(by_id(changed, other), rows, seen("v1", "v2"), NOW, budget=150)

        assert (made.chill, made.cold) == ([1], [changed])

    def test_old_settings_go_on_where_the_new_ones_never_fit(self) -> None:
        made = plan(by_id(wanted(1, name="v1-i8", memory_bytes=800)), [row(1)], seen("v1"), NOW, budget=150)

        assert (made.ready, made.chill) == ({UUID(int=1)}, [])

    def test_what_was_given_up_and_is_called_again_stays_where_it_is(self) -> None:
        rows = [row(1, status=Status.DRAINING, wanted_at=NOW), row(2, used_at=NOW - MINUTE)]

        made = plan(by_id(wanted(1), wanted(2)), rows, seen("v1", "v2"), NOW, budget=150)

        assert made.revive == [1]
        assert made.chill == [2]


def test_thousands_of_versions_cost_little_more_each_than_hundreds() -> None:
    """Nearly linear, that is: the processor's time, which a busy machine does not stretch."""

    def seconds(count: int) -> float:
        versions = by_id(*map(wanted, range(count)))
        rows = [row(number) for number in range(count)]
        found = seen(*(f"v{number}" for number in range(count)))
        started = process_time()
        plan(versions, rows, found, NOW, budget=100 * count)
        return process_time() - started

    few = min(seconds(500) for _ in range(3))

    assert min(seconds(5000) for _ in range(3)) < 40 * few
