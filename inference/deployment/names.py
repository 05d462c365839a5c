"""The names that versions and their parts have at Triton (catalog.models.triton_name)."""

import re
import time
from uuid import uuid4

_TRIAL = "trial-"
LONGEST_TRIAL_SECONDS = 600
_NAME = re.compile(r"(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-v(\d+)(?:-[a-z]\d+)*)(\.\w+)?")


def version_name(name: str) -> str | None:
    """Of the version that a model belongs to, an ensemble's step for example. None for a model of somebody else's."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def version_of(name: str) -> tuple[str, int] | None:
    """The model's id and the version's number. None for a step, and for a model of somebody else's."""
    found = _NAME.fullmatch(name)
    return (found[2], int(found[3])) if found and not found[4] else None


def load_number() -> int:
    """Triton's number of what is loaded now: milliseconds since 1970. No two loads of a model have the same, and
    reconciliation.py knows old from new."""
    return time.time_ns() // 1_000_000


def trial_name() -> str:
    """Of what is loaded only to see whether it can be."""
    return f"{_TRIAL}{uuid4()}"


def is_left_trial(name: str, number: int) -> bool:
    """Whether whoever tried it has gone without unloading it; `number` as it was loaded."""
    return name.startswith(_TRIAL) and load_number() - number > LONGEST_TRIAL_SECONDS * 1000
