"""The scheduler prefers the endpoint that will answer first."""

import pytest

from inference.scheduler import Scheduler
from marketplace.errors import ModelUnavailable


def test_unknown_endpoints_keep_their_order() -> None:
    assert Scheduler().ranked(["a", "b"], "model") == ["a", "b"]


def test_the_endpoint_with_fewer_calls_in_flight_comes_first() -> None:
    scheduler = Scheduler()
    for endpoint in "ab":
        with scheduler.running(endpoint, "model"):
            pass

    with scheduler.running("a", "model"), scheduler.running("a", "model"), scheduler.running("a", "model"):
        best = scheduler.ranked(["a", "b"], "model")[0]

    assert best == "b"


def test_an_endpoint_that_failed_is_asked_last() -> None:
    scheduler = Scheduler()
    with pytest.raises(ModelUnavailable), scheduler.running("a", "model"):
        raise ModelUnavailable("down")

    assert scheduler.ranked(["a", "b"], "model") == ["b", "a"]


def test_what_is_remembered_is_bounded() -> None:
    scheduler = Scheduler(most=2)
    for name in ("x", "y", "z"):
        with pytest.raises(ModelUnavailable), scheduler.running("a", name):
            raise ModelUnavailable("down")

    assert scheduler.ranked(["a", "b"], "x") == ["a", "b"]
    assert scheduler.ranked(["a", "b"], "z") == ["b", "a"]
