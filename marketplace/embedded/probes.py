"""Cheap questions to a server that may not be there: no client library, no exception, an answer within a second."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path

Connecting = Coroutine[None, None, tuple[asyncio.StreamReader, asyncio.StreamWriter]]
PATIENCE_SECONDS = 1.0


async def http_ok(host: str, port: int, path: str) -> bool:
    """Whether GET answers 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    status = await _ask(asyncio.open_connection(host, port), request)
    return status.split(b" ", 2)[1:2] == [b"200"]


async def valkey_pong(socket: Path) -> bool:
    """Whether Valkey has read its log and takes commands."""
    return await _ask(asyncio.open_unix_connection(socket), b"PING\r\n") == b"+PONG\r\n"


async def _ask(connecting: Connecting, question: bytes) -> bytes:
    """The first line of the answer; nothing from a server that is absent or slow."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await connecting
            try:
                writer.write(question)
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""
