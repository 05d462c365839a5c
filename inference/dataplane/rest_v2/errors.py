"""Failures in Triton's form, `{"error": "..."}`, with the headers that HTTP has for them."""

import json
from math import ceil

from inference.dataplane.retrying import seconds_until_retry
from marketplace.edge import Headers, masked
from marketplace.errors import MarketplaceError

JSON = (b"content-type", b"application/json")


def body(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def refusal(error: MarketplaceError) -> tuple[int, Headers, bytes]:
    where = error.path.removeprefix("input.") if error.path and error.path not in _OF_THE_URL else None
    message = f"{where}: {error.message}" if where else error.message
    return error.http_status, [JSON, *_headers(error)], body(message)


# The fields that are no part of the body here.
_OF_THE_URL = frozenset({"input.model", "input.version"})


def _headers(error: MarketplaceError) -> Headers:
    if error.http_status == 401:
        return [(b"www-authenticate", b"Bearer")]
    seconds = seconds_until_retry(error)
    return [] if seconds is None else [(b"retry-after", str(max(ceil(seconds), 1)).encode())]


def internal(error: Exception) -> tuple[int, Headers, bytes]:
    """Whatever was not expected is logged once, and masked."""
    message, _reference = masked(error)
    return 500, [JSON], body(message)
