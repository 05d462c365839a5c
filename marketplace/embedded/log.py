"""One merged log: every line says whose it is, in that program's colour where a person is looking."""

import asyncio
import contextlib
import sys
from typing import TextIO

WIDTH = 11
COLOURS = {
    "marketplace": 1,
    "postgres": 34,
    "valkey": 31,
    "triton": 32,
    "web": 36,
    "worker": 35,
    "beat": 33,
}
CHUNK_BYTES = 65536


class Log:
    """Where every program's lines go."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.coloured = self.stream.isatty()

    def line(self, source: str, text: str) -> None:
        prefix = f"{source:<{WIDTH}} | "
        if self.coloured:
            prefix = f"\033[{COLOURS.get(source, 37)}m{prefix}\033[0m"
        # Whoever read us may be gone (`make run | head`); the programs must not wait for a reader all the same.
        with contextlib.suppress(OSError):
            self.stream.write(f"{prefix}{text}\n")
            self.stream.flush()

    async def follow(self, source: str, output: asyncio.StreamReader, noise: tuple[str, ...]) -> None:
        """Copy a program's output until it ends, less empty lines and noise. Lines may be long, in any encoding."""
        rest = b""
        while chunk := await output.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            self._copy(source, lines, noise)
        self._copy(source, [rest], noise)

    def _copy(self, source: str, lines: list[bytes], noise: tuple[str, ...]) -> None:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text and not any(words in text for words in noise):
                self.line(source, text)
