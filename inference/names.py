"""The names that versions and their parts have at Triton (catalog.models.triton_name)."""

import re

_NAME = re.compile(r"(([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-v(\d+)(?:-[a-z]\d+)*)(\.\w+)?")


def version_name(name: str) -> str | None:
    """Of the version that a model belongs to, an ensemble's step for example. None for a model of somebody else's."""
    found = _NAME.fullmatch(name)
    return found[1] if found else None


def version_of(name: str) -> tuple[str, int] | None:
    """The model's id and the version's number. None for a step, and for a model of somebody else's."""
    found = _NAME.fullmatch(name)
    return (found[2], int(found[3])) if found and not found[4] else None
