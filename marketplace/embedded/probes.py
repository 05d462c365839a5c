"""Cheap questions to a server that may not be there: no client library, no exception, an answer within seconds."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path

Connecting = Coroutine[None, None, tuple[asyncio.StreamReader, asyncio.StreamWriter]]
PATIENCE_SECONDS = 5.0


async def http_get(host: str, port: int, path: str, *, name: str = "localhost") -> tuple[int, str]:
    """Status and body of GET, sent to the virtual host `name`; status 0 when there is no answer."""
    request = f"GET {path} HTTP/1.0\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
    head, _, body = (await _ask(asyncio.open_connection(host, port), request)).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body.decode(errors="replace")


async def valkey_pong(socket: Path) -> bool:
    """Whether Valkey has read its log and takes commands."""
    answer = await _ask(asyncio.open_unix_connection(socket), b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n")
    return answer.startswith(b"+PONG\r\n")


async def _ask(connecting: Connecting, question: bytes) -> bytes:
    """All that is answered until the connection closes; nothing from a server that is absent or slow."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await connecting
            try:
                writer.write(question)
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
