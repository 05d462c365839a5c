"""The bytes of uploads: tus 1.0 (tus.io/protocols/resumable-upload) at /uploads/{id}, and PUT for those with only curl.

Uploads are created by GraphQL; here are the core protocol and its extensions expiration and termination. PUT takes the
whole artefact, or with Content-Range the part of it that begins where the upload ends. Who asks is known, and so is the
upload, before a byte of a body is read.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.http import http_date
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.edge import Headers, Receive, Scope, Send, bearer, masked, refuse_body, respond
from marketplace.errors import (
    MarketplaceError,
    ModelUnavailable,
    NotFound,
    PermissionDenied,
    RateLimited,
    ValidationProblem,
)
from marketplace.tenants.authentication import principal_from_key, principal_from_session
from marketplace.tenants.sessions import forgery, request_of

from . import pieces, uploads
from .models import Upload, UploadStatus
from .ownership import own_upload
from .receiving import HungUp, TooSlow, receive_into, too_many, with_records

VERSION = b"1.0.0"
OCTETS = "application/offset+octet-stream"
METHODS = "OPTIONS, HEAD, PATCH, PUT, DELETE"
MAX_DIGITS = 18
RETRY_AFTER_MS = 1000

Answer = tuple[int, Headers, bytes]

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_senders: Counter[UUID] = Counter()


class _Refused(Exception):
    """What HTTP or tus has a status of its own for."""

    def __init__(self, status: HTTPStatus, message: str, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or []


class _Asked(NamedTuple):
    scope: Scope
    method: str
    headers: dict[bytes, bytes]
    receive: Receive

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def number(self, name: bytes) -> int | None:
        """Raises ValidationProblem for what is none."""
        value = self.text(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > MAX_DIGITS:
            raise ValidationProblem(_("%(header)s is a number of bytes.") % {"header": name.decode().title()})
        return int(value)

    @property
    def has_body(self) -> bool:
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    headers = dict(scope["headers"])
    # Where only GET and POST come through (tus has it so).
    method = headers.get(b"x-http-method-override", b"").decode("latin-1").upper() or scope["method"]
    asked = _Asked(scope, method, headers, receive)
    try:
        status, more, content = await _answer(asked)
        unread = False
    except HungUp:
        return
    except Exception as error:
        status, more, content = _failure(error)
        unread = asked.has_body
    more = [(b"tus-resumable", VERSION), (b"cache-control", b"no-store"), *more]
    if content:
        more.append((b"content-type", b"application/json"))
    if unread:
        await refuse_body(receive, send, status, more, content)
    elif method == "HEAD" or status == HTTPStatus.NO_CONTENT:
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": b""})
    else:
        await respond(send, status, more, content)


async def _answer(asked: _Asked) -> Answer:
    if asked.method == "OPTIONS":
        return 204, _abilities(), b""
    if asked.method not in ("HEAD", "PATCH", "PUT", "DELETE"):
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", [(b"allow", METHODS.encode())])
    if asked.headers.get(b"tus-resumable", VERSION) != VERSION:
        raise _Refused(HTTPStatus.PRECONDITION_FAILED, "tus 1.0.0 is spoken here", [(b"tus-version", VERSION)])
    upload_id = _named(asked.scope["path"])
    principal = await with_records(lambda: _who(asked))
    if asked.method == "DELETE":
        await with_records(lambda: uploads.cancel(principal, upload_id=upload_id))
        return 204, [], b""
    upload = await with_records(lambda: own_upload(principal, upload_id))
    if upload.status == UploadStatus.EXPIRED:
        raise _Refused(HTTPStatus.GONE, _("This upload has expired. Create another one, and send its bytes."))
    if asked.method == "HEAD":
        return 200, [*_state(upload), (b"upload-length", str(upload.size_bytes).encode())], b""
    with _place_of(principal):
        take = _patch if asked.method == "PATCH" else _put
        return await take(asked, upload)


def _abilities() -> Headers:
    return [
        (b"tus-version", VERSION),
        (b"tus-extension", b"expiration,termination"),
        (b"tus-max-size", str(settings.MAX_ARTIFACT_BYTES).encode()),
        (b"allow", METHODS.encode()),
    ]


def _named(path: str) -> UUID:
    try:
        return UUID(path.removeprefix("/uploads/"))
    except ValueError:
        raise NotFound(_("There is no such object, or it is not yours to see.")) from None


def _who(asked: _Asked) -> Principal:
    """By key, or by the session of a page of this site."""
    secret = bearer(asked.text(b"authorization"))
    if secret is not None:
        return principal_from_key(secret)
    request = request_of(asked.scope, asked.method)
    if asked.method != "HEAD" and (reason := forgery(request)) is not None:
        raise PermissionDenied(
            _("A session's request needs its CSRF token in the header X-CSRFToken. %(why)s") % {"why": reason}
        )
    return principal_from_session(request)


@contextmanager
def _place_of(principal: Principal) -> Iterator[None]:
    """One of the requests with bytes that a tenant may have under way in this process: some resume what still hangs."""
    tenant, most = principal.tenant_id, 2 * settings.MAX_OPEN_UPLOADS
    assert tenant is not None
    if _senders[tenant] >= most:
        raise RateLimited(
            _("Your tenant sends %(most)d uploads at once, which is the most. Try again when one of them is done.")
            % {"most": most},
            retry_after_ms=RETRY_AFTER_MS,
        )
    _senders[tenant] += 1
    try:
        yield
    finally:
        _senders[tenant] -= 1
        if not _senders[tenant]:
            del _senders[tenant]


async def _patch(asked: _Asked, upload: Upload) -> Answer:
    if (asked.text(b"content-type") or "").partition(";")[0].strip().lower() != OCTETS:
        raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, _("Send the bytes as %(type)s.") % {"type": OCTETS})
    offset = asked.number(b"upload-offset")
    if offset is None:
        raise ValidationProblem(_("Upload-Offset is missing: it says where the bytes begin."))
    declared = asked.number(b"content-length")
    if declared is not None and offset + declared > upload.size_bytes:
        raise too_many(upload)
    return 204, _state(await _received(asked, upload, offset)), b""


async def _put(asked: _Asked, upload: Upload) -> Answer:
    offset, length = _range(asked.text(b"content-range"), upload)
    declared = asked.number(b"content-length")
    if declared is not None and declared != length:
        raise ValidationProblem(
            _("These are %(came)d bytes, where %(expected)d belong.") % {"came": declared, "expected": length}
        )
    if asked.text(b"content-range") is None and upload.status == UploadStatus.PENDING and upload.received_bytes:
        upload = await with_records(partial(pieces.restart, upload))
    upload = await _received(asked, upload, offset)
    told = {"status": upload.status, "receivedBytes": upload.received_bytes, "sha256": upload.sha256 or None}
    return 200, _state(upload), json.dumps(told).encode()


def _range(content_range: str | None, upload: Upload) -> tuple[int, int]:
    """Offset and length of what comes (RFC 9110, 14.4)."""
    if content_range is None:
        return 0, upload.size_bytes
    found = _RANGE.fullmatch(content_range)
    if found is None or int(found[1]) > int(found[2]) or found[3] not in ("*", str(upload.size_bytes)):
        raise ValidationProblem(
            _("Content-Range is `bytes <first>-<last>/%(size)d` here.") % {"size": upload.size_bytes}
        )
    return int(found[1]), int(found[2]) - int(found[1]) + 1


async def _received(asked: _Asked, upload: Upload, offset: int) -> Upload:
    if upload.status != UploadStatus.PENDING or offset != upload.received_bytes:
        raise _Refused(
            HTTPStatus.CONFLICT,
            _("The upload has %(offset)d bytes: go on from there.") % {"offset": upload.received_bytes},
            _state(upload),
        )
    if asked.has_body:
        upload = await receive_into(upload, asked.receive)
    return await with_records(partial(pieces.complete, upload))


def _state(upload: Upload) -> Headers:
    return [
        (b"upload-offset", str(upload.received_bytes).encode()),
        (b"upload-expires", http_date(upload.expires_at.timestamp()).encode()),
    ]


def _failure(error: Exception) -> Answer:
    headers: Headers = []
    match error:
        case _Refused():
            status, message, headers = int(error.status), str(error), error.headers
        case TooSlow():
            status, message = 408, _("The bytes came too slowly. Those that came are kept: go on from Upload-Offset.")
        case MarketplaceError():
            status, message = error.http_status, error.message
        case OperationalError() | InterfaceError():
            error = ModelUnavailable(
                _("The marketplace cannot reach its records just now. Try again shortly."), retry_after_ms=1000
            )
            status, message = error.http_status, error.message
        case _:
            status, (message, _reference) = 500, masked(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers = [*headers, (b"www-authenticate", b"Bearer")]
    if isinstance(error, RateLimited | ModelUnavailable):
        headers = [*headers, (b"retry-after", b"1")]
    return status, headers, json.dumps({"error": message}).encode()
