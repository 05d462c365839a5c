"""What publishers upload, kept under the SHA-256 of its bytes: `root/<first two hex digits>/<sha256>`.

Files are written once, whole or not at all, and checked when they are read.
"""

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

CHUNK_BYTES = 1024 * 1024


class CorruptArtifact(OSError):
    """A stored file no longer is what its name says."""


def path_of(root: Path, sha256: str) -> Path:
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"not a SHA-256 in hexadecimal: {sha256!r}")
    return root / sha256[:2] / sha256


def put(root: Path, content: Path | bytes) -> tuple[str, int]:
    """Keeps a file or bytes; answers with the SHA-256 in hexadecimal and the size in bytes."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=root, prefix="incoming-", delete=False) as written:
        try:
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                sha256, size = _copy(source, written)
            written.flush()
            os.fsync(written.fileno())
            target = path_of(root, sha256)
            target.parent.mkdir(exist_ok=True)
            os.replace(written.name, target)
        except BaseException:
            os.unlink(written.name)
            raise
    _sync_folder(target.parent)
    return sha256, size


def get(root: Path, sha256: str) -> bytes:
    """Raises FileNotFoundError, or CorruptArtifact when the bytes are not those that were put."""
    content = path_of(root, sha256).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptArtifact(f"the stored file {sha256} has changed: upload the model version again")
    return content


def _copy(source: BinaryIO, target: Any) -> tuple[str, int]:
    hashed, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        hashed.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return hashed.hexdigest(), size


def _sync_folder(folder: Path) -> None:
    """A rename is on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
