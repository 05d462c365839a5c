"""The object store: what publishers upload, kept under the SHA-256 of its bytes, in a folder or in an S3 bucket.

Objects are written once, whole or not at all, and checked whenever they are read. What is still on its way is staged
under names of its own, and joined to an object once it is whole.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class DirectStore(ObjectStore, Protocol):
    """One to which callers may send what is staged themselves, in parts, each to a URL that allows just that."""

    def begin_parts(self, name: str) -> str:
        """Answers with an id for the parts of what will be staged under `name`."""

    def part_url(self, name: str, parts_id: str, *, number: int, size_bytes: int, seconds: int) -> str:
        """Where to PUT a part within that time. They are numbered from 1, and all but the last have 5 MiB or more."""

    def finish_parts(self, name: str, parts_id: str, etags: Sequence[str]) -> int:
        """Stages the parts together, `etags` being what each PUT was answered; answers with the size of it all.

        Once more changes nothing. Raises ValueError when they are not those that came, FileNotFoundError when they were
        aborted.
        """

    def abort_parts(self, name: str, parts_id: str) -> None:
        """Forgets them; what is finished or aborted already is no error."""


def store() -> ObjectStore:
    """The one that the settings name."""
    return _s3(settings.OBJECT_STORE_URL) if settings.OBJECT_STORE_URL else Folder(settings.OBJECTS_DIR)


def direct_store() -> DirectStore | None:
    """The store, if callers may send to it themselves."""
    chosen = store()
    return chosen if isinstance(chosen, DirectStore) else None


@cache
def _s3(url: str) -> ObjectStore:
    from .s3 import S3  # noqa: PLC0415  (boto3 is large, and whoever keeps objects in a folder does without)

    return S3(url)
