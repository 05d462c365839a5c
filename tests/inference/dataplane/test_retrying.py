"""When it is worth asking again."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from inference.dataplane.retrying import seconds_until_retry
from marketplace.errors import MarketplaceError, ModelUnavailable, NotFound, QuotaExceeded, RateLimited


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RateLimited("", retry_after_ms=1500), 1.5),
        (ModelUnavailable("", retry_after_ms=200), 0.2),
        (ModelUnavailable(""), None),
        (NotFound(""), None),
    ],
)
def test_what_says_so_itself(error: MarketplaceError, seconds: float | None) -> None:
    assert seconds_until_retry(error) == seconds


@pytest.mark.parametrize(("until", "least", "most"), [(60, 50, 60), (-60, 0, 0)])
def test_a_quota_when_the_next_period_starts(until: int, least: float, most: float) -> None:
    error = QuotaExceeded(
        "", limit=Decimal(1), remaining=Decimal(0), resets_at=timezone.now() + timedelta(seconds=until)
    )

    seconds = seconds_until_retry(error)

    assert seconds is not None
    assert least <= seconds <= most
