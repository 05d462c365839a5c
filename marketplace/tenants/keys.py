"""The form of an API key: `mk_` + 10 characters to recognise it by + `_` + 32 secret ones + 6 of checksum, all base 62.

The checksum (CRC-32, as GitHub's tokens have it) lets a mistyped key be refused, and a leaked one be found in a text,
without asking the database.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import NamedTuple

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(r"mk_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}")


class NewKey(NamedTuple):
    secret: str
    prefix: str
    digest: bytes


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def draw() -> NewKey:
    prefix = f"mk_{_random(10)}"
    body = f"{prefix}_{_random(32)}"
    secret = body + _checksum(body)
    return NewKey(secret=secret, prefix=prefix, digest=digest(secret))


def is_well_formed(secret: str) -> bool:
    return _FORM.fullmatch(secret) is not None and _checksum(secret[:-6]) == secret[-6:]


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
