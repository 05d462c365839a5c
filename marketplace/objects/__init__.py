"""The object store: what publishers upload, kept under the SHA-256 of its bytes, in a folder or in an S3 bucket.

Objects are written once, whole or not at all, and checked whenever they are read. What is still on its way is staged
under names of its own, and joined to an object once it is whole.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from django.conf import settings

from .folder import Folder


class ObjectStore(Protocol):
    """Objects are named by their SHA-256 in hexadecimal; any other name is a ValueError.

    A missing object is a FileNotFoundError, and one whose bytes have changed a CorruptObject (an OSError).
    """

    def put(self, content: Path | bytes) -> tuple[str, int]:
        """Keeps a file or bytes; answers with the SHA-256 and the size in bytes."""

    def get(self, sha256: str) -> bytes: ...

    def download(self, sha256: str, to: Path) -> None:
        """Writes the object to the file `to`."""

    def exists(self, sha256: str) -> bool: ...

    def delete(self, sha256: str, *, unused_for: timedelta = timedelta(0)) -> bool:
        """Unless it was put within that time. False for what is left, and for what is not there."""

    def stage(self, name: str, content: Path) -> None:
        """Takes the file over, under `name` (letters, digits and hyphens)."""

    def join(self, names: Sequence[str], *, sha256: str | None = None) -> tuple[str, int]:
        """Puts what is staged under the names, one behind the other, and leaves it staged. Answers as `put`.

        Raises UnexpectedContent, and puts nothing, when `sha256` is given and is another one.
        """

    def unstage(self, names: Sequence[str]) -> None:
        """Forgets it; what is not staged is no error."""


def store() -> ObjectStore:
    """The one that the settings name."""
    return Folder(settings.OBJECTS_DIR)
