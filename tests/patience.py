"""How long a call waits for PostgreSQL before it is refused: less than a second, as long as nothing says otherwise.

A machine that has much to do takes longer than that now and then. Tests that are about something else have time.
"""

from collections.abc import Callable
from typing import Any

from marketplace.metering import admission, batches, connections

PATIENT_SECONDS = 30.0


def have_patience(set_attribute: Callable[[Any, str, float], None] = setattr) -> None:
    """`set_attribute`: pytest's monkeypatch.setattr, for no longer than a test."""
    for module in (connections, batches, admission):
        set_attribute(module, "WAIT_SECONDS", PATIENT_SECONDS)
    set_attribute(connections, "MOST_SECONDS", PATIENT_SECONDS)
