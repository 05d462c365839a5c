"""Every expected failure has its Problem; what was not expected gives nothing away."""

import inspect
import logging
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import OperationalError
from graphql import GraphQLError

from graphql_api.errors import PROBLEMS, formatted, problem_of
from marketplace import errors
from marketplace.errors import MarketplaceError


def expected_failures() -> list[type[MarketplaceError]]:
    return [
        kind
        for _name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, MarketplaceError) and kind not in (MarketplaceError, errors.Unauthenticated)
    ]


def test_there_is_a_problem_for_every_expected_failure() -> None:
    there = {kind.__name__ for kind in PROBLEMS}

    assert there <= {kind.__name__ for kind in expected_failures()}
    for kind in expected_failures():
        # A special case is the problem of its kind.
        assert kind.__name__ in there or kind.__base__.__name__ in there


def test_a_problem_says_what_its_error_says() -> None:
    resets = datetime(2030, 1, 1, tzinfo=UTC)
    error = errors.QuotaExceeded(
        "used up", limit=Decimal(50), remaining=Decimal(0), resets_at=resets, path="input.model"
    )

    problem = problem_of(error)

    assert vars(problem) == {
        "code": "QUOTA_EXCEEDED",
        "message": "used up",
        "path": "input.model",
        "limit": Decimal(50),
        "remaining": Decimal(0),
        "resets_at": resets,
    }


def test_a_special_case_of_an_error_is_the_problem_of_its_kind() -> None:
    class StubBroken(errors.ModelUnavailable):
        pass

    problem = problem_of(StubBroken("broken", retry_after_ms=5))

    assert (type(problem).__name__, problem.code) == ("ModelUnavailable", "MODEL_UNAVAILABLE")


def test_what_was_not_expected_is_masked_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    secret = GraphQLError("password=hunter2", original_error=RuntimeError("password=hunter2"))

    with caplog.at_level(logging.ERROR):
        (answer,) = formatted([secret])

    assert "hunter2" not in str(answer)
    assert answer["extensions"]["code"] == "INTERNAL"
    assert answer["extensions"]["reference"] in answer["message"]
    (record,) = caplog.records
    assert answer["extensions"]["reference"] in record.getMessage()


def test_a_database_that_is_away_is_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    lost = GraphQLError("x", original_error=OperationalError("connection to 10.1.2.3 failed"))

    with caplog.at_level(logging.WARNING):
        (answer,) = formatted([lost])

    assert answer["extensions"]["code"] == "MODEL_UNAVAILABLE"
    assert "10.1.2.3" not in str(answer)
