"""What the stores have in common: names that are hashes, and bytes that are hashed as they pass."""

import hashlib
import re
from collections.abc import Iterable
from typing import BinaryIO

PART_BYTES = 1024 * 1024


class CorruptObject(OSError):
    """A stored object no longer is what its name says."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"the stored object {sha256} has changed: upload it again")


class StoreOutOfReach(OSError):
    """The store does not answer, or not as it should: perhaps in a while."""


class UnexpectedContent(ValueError):
    """What was staged has another SHA-256 (`found`) than it was said to have."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the SHA-256 is {found}")
        self.found = found


def checked_name(sha256: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"not a SHA-256 in hexadecimal: {sha256!r}")
    return sha256


def checked_staging_name(name: str) -> str:
    if not re.fullmatch("[0-9A-Za-z-]{1,64}", name):
        raise ValueError(f"not a name to stage under: {name!r}")
    return name


def copy(sources: Iterable[BinaryIO], target: BinaryIO) -> tuple[str, int]:
    """One behind the other; answers with the SHA-256 in hexadecimal and the size in bytes."""
    hashed, size = hashlib.sha256(), 0
    for source in sources:
        while part := source.read(PART_BYTES):
            hashed.update(part)
            target.write(part)
            size += len(part)
    return hashed.hexdigest(), size
