"""What ties a request to what it causes elsewhere: its id, and its place in a trace (W3C Trace Context)."""

import logging
import re
import secrets
from contextvars import ContextVar
from typing import NamedTuple

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Trace(NamedTuple):
    """`traceparent` is "" for a request that is part of no trace."""

    request_id: str
    traceparent: str


NONE = Trace("", "")
current: ContextVar[Trace] = ContextVar("trace", default=NONE)


class RequestId(logging.Filter):
    """Gives each record the `request_id` of the request that it is about, or a dash."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current.get().request_id or "-"
        return True


def begun(request_id: str | None, traceparent: str | None) -> Trace:
    """The trace of a request by its headers X-Request-Id and traceparent. An id that is none is replaced."""
    known = request_id if request_id and _REQUEST_ID.fullmatch(request_id) else secrets.token_hex(16)
    return Trace(known, traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else "")
