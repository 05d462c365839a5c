"""A server that is about to end: what it has begun may finish, and whoever asks for more is told to ask again."""

import asyncio
from weakref import WeakKeyDictionary

from django.utils.translation import gettext as _

from .errors import ModelUnavailable

# By then another process, or this one anew, is there to ask.
RETRY_AFTER_MS = 1000

_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Event] = WeakKeyDictionary()


def ending() -> asyncio.Event:
    """Set once this event loop's server has been told to end."""
    loop = asyncio.get_running_loop()
    event = _by_loop.get(loop)
    if event is None:
        event = _by_loop[loop] = asyncio.Event()
    return event


def restarting() -> ModelUnavailable:
    return ModelUnavailable(
        _("This server is being restarted, so it runs nothing new. Try again."), retry_after_ms=RETRY_AFTER_MS
    )


def interrupted() -> ModelUnavailable:
    return ModelUnavailable(
        _("This server is being restarted and could not wait for the end of this call. Try again."),
        retry_after_ms=RETRY_AFTER_MS,
    )
