"""When it is worth asking again, for every protocol's own way of saying so."""

from django.utils import timezone

from marketplace.errors import BudgetExceeded, MarketplaceError, ModelUnavailable, QuotaExceeded, RateLimited


def seconds_until_retry(error: MarketplaceError) -> float | None:
    """None where asking again does not help by itself."""
    if isinstance(error, QuotaExceeded | BudgetExceeded):
        return max((error.resets_at - timezone.now()).total_seconds(), 0.0)
    if isinstance(error, RateLimited | ModelUnavailable) and error.retry_after_ms is not None:
        return error.retry_after_ms / 1000
    return None
