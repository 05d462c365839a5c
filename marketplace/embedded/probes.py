"""Cheap questions to a server that may not be there: no client library, no exception, an answer within a second."""

import asyncio
from pathlib import Path

PATIENCE_SECONDS = 1.0


async def http_ok(host: str, port: int, path: str, *, patience: float = PATIENCE_SECONDS) -> bool:
    """Whether GET answers 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    status = await _ask(asyncio.open_connection(host, port), request, patience)
    return status.split(b" ", 2)[1:2] == [b"200"]


async def valkey_pong(socket: Path) -> bool:
    """Whether Valkey has read its log and takes commands."""
    return await _ask(asyncio.open_unix_connection(socket), b"PING\r\n", PATIENCE_SECONDS) == b"+PONG\r\n"


async def _ask(connecting: "asyncio._CoroutineLike[tuple[asyncio.StreamReader, asyncio.StreamWriter]]", question: bytes, patience: float) -> bytes:  # fmt: skip
    try:
        async with asyncio.timeout(patience):
            reader, writer = await connecting
            try:
                writer.write(question)
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""
