"""Bytes of an upload as they come from a socket: into a file, and from there, piece by piece, to the object store."""

import asyncio
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from marketplace.edge import Message, Receive
from marketplace.errors import PayloadTooLarge

from . import pieces
from .models import Upload, UploadPiece

T = TypeVar("T")

# What a process that is killed loses at most, and what it writes at once.
PIECE_BYTES = 16 * 1024 * 1024
WRITE_BYTES = 1024 * 1024
# Whoever sends no more than this in that time is given up.
PACE_BYTES = 32 * 1024
PACE_SECONDS = 30.0


class HungUp(Exception):
    """Nobody is there to hear an answer."""


class TooSlow(Exception):
    pass


async def with_records(work: Callable[[], T]) -> T:
    """In a thread, whose connection goes back at once: ahead of Django, no request's end returns it."""

    def run() -> T:
        try:
            return work()
        finally:
            connection.close()

    return await asyncio.to_thread(run)


async def receive_into(upload: Upload, receive: Receive) -> Upload:
    """The upload with the body behind what it had. What came before a failure counts.

    Raises HungUp, TooSlow, PayloadTooLarge for more bytes than the upload was declared to have, and Conflict.
    """
    incoming = _Incoming(upload)
    paced = _paced(receive)
    try:
        more = True
        while more:
            message = await paced()
            if message["type"] == "http.disconnect":
                raise HungUp
            await incoming.add(message.get("body", b""))
            more = message.get("more_body", False)
    finally:
        await incoming.flush()
    return incoming.upload


def too_many(upload: Upload) -> PayloadTooLarge:
    return PayloadTooLarge(
        _("This upload was declared to have %(size)d bytes, and more came. Create one of the right size.")
        % {"size": upload.size_bytes}
    )


def _paced(receive: Receive) -> Receive:
    """Raises TooSlow. Only the caller's own time counts, not that in which we do something with what came."""
    left, seconds = PACE_BYTES, PACE_SECONDS
    clock = asyncio.get_running_loop().time

    async def paced() -> Message:
        nonlocal left, seconds
        began = clock()
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise TooSlow from None
        left -= len(message.get("body", b""))
        seconds -= clock() - began
        if left <= 0:
            left, seconds = PACE_BYTES, PACE_SECONDS
        return message

    return paced


class _Incoming:
    """What one caller sends. Threads write it, one at a time even when whoever waited for one of them is cancelled."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._left = upload.size_bytes - upload.received_bytes
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._piece: UploadPiece | None = None
        self._file: Any = None
        self._turn = threading.Lock()

    async def add(self, part: bytes) -> None:
        if len(part) > self._left:
            raise too_many(self.upload)
        self._left -= len(part)
        self._buffer.append(part)
        self._buffered += len(part)
        if self._buffered >= WRITE_BYTES:
            await with_records(self._write)

    async def flush(self) -> None:
        """What has come is kept, whatever has become of the caller."""
        await with_records(self._keep)

    def _write(self) -> None:
        with self._turn:
            self._write_out()
            if self._file is not None and self._file.tell() >= PIECE_BYTES:
                self._keep_piece()

    def _keep(self) -> None:
        with self._turn:
            self._write_out()
            if self._file is not None:
                self._keep_piece()

    def _write_out(self) -> None:
        buffer, self._buffer, self._buffered = self._buffer, [], 0
        if buffer and self._file is None:
            self._piece = pieces.begin(self.upload)
            folder: Path = settings.INCOMING_DIR
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115  (outlives this call)
        for part in buffer:
            self._file.write(part)

    def _keep_piece(self) -> None:
        file, piece, self._file, self._piece = self._file, self._piece, None, None
        assert piece is not None
        path = Path(file.name)
        try:
            file.close()
            self.upload = pieces.keep(self.upload, piece, path)
        finally:
            path.unlink(missing_ok=True)
