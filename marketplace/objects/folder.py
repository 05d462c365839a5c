"""Objects as files: `root/<first two hex digits>/<sha256>`, and what is staged in `root/staged`."""

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, cast

from .content import CorruptObject, UnexpectedContent, checked_name, checked_staging_name, copy


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, sha256: str) -> Path:
        return self.root / checked_name(sha256)[:2] / sha256

    def put(self, content: Path | bytes) -> tuple[str, int]:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            return self._put([source])

    def get(self, sha256: str) -> bytes:
        content = self.path_of(sha256).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorruptObject(sha256)
        return content

    def download(self, sha256: str, to: Path) -> None:
        with self.path_of(sha256).open("rb") as source, to.open("wb") as target:
            found, _size = copy([source], target)
        if found != sha256:
            to.unlink()
            raise CorruptObject(sha256)

    def exists(self, sha256: str) -> bool:
        return self.path_of(sha256).is_file()

    def delete(self, sha256: str, *, unused_for: timedelta = timedelta(0)) -> bool:
        path = self.path_of(sha256)
        try:
            if time.time() - path.stat().st_mtime < unused_for.total_seconds():
                return False
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def stage(self, name: str, content: Path) -> None:
        target = self._staged(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with content.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(content, target)
        _sync(target.parent)

    def join(self, names: Sequence[str], *, sha256: str | None = None) -> tuple[str, int]:
        return self._put(self._opened(names), expected=sha256)

    def unstage(self, names: Sequence[str]) -> None:
        for name in names:
            self._staged(name).unlink(missing_ok=True)

    def _staged(self, name: str) -> Path:
        return self.root / "staged" / checked_staging_name(name)

    def _opened(self, names: Iterable[str]) -> Iterator[BinaryIO]:
        for name in names:
            with self._staged(name).open("rb") as source:
                yield source

    def _put(self, sources: Iterable[BinaryIO], expected: str | None = None) -> tuple[str, int]:
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.root, prefix="incoming-", delete=False) as written:
            try:
                sha256, size = copy(sources, cast(BinaryIO, written))
                if expected not in (None, sha256):
                    raise UnexpectedContent(sha256)
                written.flush()
                os.fsync(written.fileno())
                target = self.path_of(sha256)
                target.parent.mkdir(exist_ok=True)
                os.replace(written.name, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(written.name)
                raise
        _sync(target.parent)
        return sha256, size


def _sync(folder: Path) -> None:
    """A rename is on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
