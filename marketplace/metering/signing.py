"""Ed25519 signatures as compact JWS (RFC 7515 with RFC 8037), and the public key as a JWK (RFC 7517).

The private key is drawn once, into DATA_DIR/receipt_key. Web processes on several machines must share that file;
whoever loses it can no longer prove what was signed with it.
"""

import hashlib
import json
import os
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings
from django.utils.translation import gettext as _

# RFC 8725, 3.11: a type of its own, so that a receipt is never taken for another kind of token.
TYPE = "receipt+jwt"


class NotAuthentic(Exception):
    """This text is not something that we signed. The message says why."""


def sign(claims: dict[str, Any]) -> str:
    """The compact JWS of these claims. The same claims always give the same text."""
    header = {"alg": "EdDSA", "kid": public_jwk()["kid"], "typ": TYPE}
    signed = f"{_encode(_canonical(header))}.{_encode(_canonical(claims))}"
    return f"{signed}.{_encode(_private_key().sign(signed.encode()))}"


def authentic(jws: str) -> dict[str, Any]:
    """The claims of a compact JWS that we signed. Raises NotAuthentic."""
    try:
        header_part, claims_part, signature_part = jws.split(".")
        header, signature = json.loads(_decode(header_part)), _decode(signature_part)
    except (ValueError, RecursionError) as error:
        raise NotAuthentic(_("This is not a signed receipt: a compact JWS has three parts in base64url.")) from error
    # The header decides nothing: whatever is not exactly ours is refused before it is used.
    expected = {"alg": "EdDSA", "kid": public_jwk()["kid"], "typ": TYPE}
    if header != expected:
        raise NotAuthentic(
            _("Its header is not that of a receipt of ours: %(header)s, not %(expected)s.")
            % {"header": json.dumps(header), "expected": json.dumps(expected)}
        )
    try:
        _private_key().public_key().verify(signature, f"{header_part}.{claims_part}".encode())
    except InvalidSignature as error:
        raise NotAuthentic(_("The signature does not match: the receipt was changed, or another key signed it.")) from (
            error
        )
    claims: dict[str, Any] = json.loads(_decode(claims_part))
    return claims


def public_jwk() -> dict[str, str]:
    """The public key. Its id is its thumbprint (RFC 7638)."""
    public: Ed25519PublicKey = _private_key().public_key()
    key = {"crv": "Ed25519", "kty": "OKP", "x": _encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    return key | {"kid": _encode(hashlib.sha256(_canonical(key)).digest()), "alg": "EdDSA", "use": "sig"}


def _private_key() -> Ed25519PrivateKey:
    return _key_in(Path(settings.DATA_DIR))


@lru_cache(maxsize=1)
def _key_in(folder: Path) -> Ed25519PrivateKey:
    path = folder / "receipt_key"
    if not path.exists():
        _draw(path)
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def _draw(path: Path) -> None:
    """Several processes may get here at once: each draws a key, the first to link its own wins, all use that one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Readable by its owner alone from the first moment.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".receipt_key-") as fresh:
        fresh.write(pem)
        fresh.flush()
        os.fsync(fresh.fileno())
        try:
            os.link(fresh.name, path)
        except FileExistsError:
            return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Strictly: of the texts that a lax reader takes for the same bytes, only the one that `_encode` writes."""
    content = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _encode(content) != text:
        raise ValueError(text)
    return content
