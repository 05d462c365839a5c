"""How much of large bodies a process holds at a time: as many as are read at once, no matter by how many keys."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.utils.translation import gettext as _

from marketplace.errors import ModelUnavailable

MOST_BYTES = 512 * 1024 * 1024
# Smaller ones are not counted: connections bound them.
LARGE = 1024 * 1024
RETRY_AFTER_MS = 1000

_held = 0


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Holds `size` bytes of what there is. Raises ModelUnavailable when there is not as much."""
    global _held  # noqa: PLW0603  (one number for the whole process)
    counted = size if size > LARGE else 0
    if counted and _held + counted > MOST_BYTES:
        raise ModelUnavailable(
            _("Too many large requests are under way. Try again in a moment."), retry_after_ms=RETRY_AFTER_MS
        )
    _held += counted
    try:
        yield
    finally:
        _held -= counted
