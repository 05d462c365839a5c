"""The scheduler prefers the endpoint that will answer first."""

import pytest

from inference import scheduler as scheduling
from inference.scheduler import Scheduler
from marketplace.errors import ModelUnavailable

A, B = ("a", "model"), ("b", "model")


def test_unknown_endpoints_keep_their_order() -> None:
    assert Scheduler().ranked([A, B]) == [A, B]


def test_the_endpoint_with_fewer_calls_in_flight_comes_first() -> None:
    scheduler = Scheduler()
    for endpoint in "ab":
        with scheduler.running(endpoint, "model"):
            pass

    with scheduler.running("a", "model"), scheduler.running("a", "model"), scheduler.running("a", "model"):
        best = scheduler.ranked([A, B])[0]

    assert best == B


def test_an_endpoint_that_failed_is_asked_last() -> None:
    scheduler = Scheduler()
    with pytest.raises(ModelUnavailable), scheduler.running("a", "model"):
        raise ModelUnavailable("down")

    assert scheduler.ranked([A, B]) == [B, A]


def test_an_endpoint_that_failed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr(scheduling, "monotonic", lambda: next(clock) / 100)
    scheduler = Scheduler()
    with pytest.raises(ModelUnavailable), scheduler.running("a", "model"):
        raise ModelUnavailable("down")
    clock = iter(range(12_000, 13_000, 1))
    with scheduler.running("b", "model"):
        pass
    assert scheduler.ranked([A, B]) == [A, B]

    with pytest.raises(ModelUnavailable), scheduler.running("a", "model"):
        raise ModelUnavailable("down still")
    assert scheduler.ranked([A, B]) == [B, A]


def test_what_is_remembered_is_bounded() -> None:
    scheduler = Scheduler(most=2)
    for name in ("x", "y", "z"):
        with pytest.raises(ModelUnavailable), scheduler.running("a", name):
            raise ModelUnavailable("down")

    assert scheduler.ranked([("a", "x"), ("b", "x")]) == [("a", "x"), ("b", "x")]
    assert scheduler.ranked([("a", "z"), ("b", "z")]) == [("b", "z"), ("a", "z")]
