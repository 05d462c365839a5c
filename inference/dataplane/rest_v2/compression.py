"""Compressed bodies (RFC 9110, section 8.4.1): gzip, and deflate, which is zlib's format (RFC 1950)."""

import asyncio
import re
import zlib

from django.utils.translation import gettext as _

from marketplace.edge import too_large
from marketplace.errors import ValidationProblem

# zlib's names for the two formats: 16 added to the window's bits means gzip.
ENCODINGS = {"gzip": 31, "deflate": 15}
# What takes longer than handing it to a thread and back.
MANY_BYTES = 64 * 1024


async def inflated(body: bytes, encoding: str, most: int) -> bytes:
    """At most `most` bytes of what was compressed as one of ENCODINGS: raises PayloadTooLarge before there are more."""
    if len(body) > MANY_BYTES:
        return await asyncio.to_thread(_inflate, body, ENCODINGS[encoding], most)
    return _inflate(body, ENCODINGS[encoding], most)


async def deflated(content: bytes, encoding: str) -> bytes:
    if len(content) > MANY_BYTES:
        return await asyncio.to_thread(_deflate, content, ENCODINGS[encoding])
    return _deflate(content, ENCODINGS[encoding])


def accepted(header: str) -> str | None:
    """The encoding to answer in, by Accept-Encoding: of those it names the one it prefers; None for none."""
    best, weight = None, 0.0
    for choice in header.split(","):
        name, _semicolon, parameters = choice.strip().lower().partition(";")
        quality = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameters) if parameters else None
        asked = float(quality[1]) if quality else 0.0 if parameters else 1.0
        if name.strip() in ENCODINGS and asked > weight:
            best, weight = name.strip(), asked
    return best


def _inflate(body: bytes, window: int, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    rest = body
    try:
        while rest:  # gzip allows several members, one behind another
            inflater = zlib.decompressobj(window)
            parts.append(inflater.decompress(rest, most + 1 - size))
            size += len(parts[-1])
            if size > most:
                raise too_large(most)
            if not inflater.eof:
                raise ValidationProblem(_("The compressed body is cut short."))
            rest = inflater.unused_data
    except zlib.error as error:
        raise ValidationProblem(_("The body is not compressed as its Content-Encoding says.")) from error
    return b"".join(parts)


def _deflate(content: bytes, window: int) -> bytes:
    deflater = zlib.compressobj(wbits=window)
    return deflater.compress(content) + deflater.flush()
