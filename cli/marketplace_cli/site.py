"""The marketplace on the wire: HTTP with patience, and GraphQL over it."""

import email.message
import email.utils
import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urljoin, urlsplit

from .failures import Misused, OutOfReach, Refused

ATTEMPTS = 6
# Seconds: what is waited at most before another attempt, whatever the server asks for.
LONGEST_WAIT = 60.0
SOCKET_TIMEOUT = 60.0
# A proxy's 502 and 504 may follow a request that was carried out; these never do.
NOT_DONE = (429, 503)


class Cut(Exception):
    """The connection broke, and the request may or may not have been carried out."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: email.message.Message
    body: bytes


class _Stay(urllib.request.HTTPRedirectHandler):
    """urllib would carry the key along to wherever it is sent."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


class Site:
    """`url` is where the pages are, as in https://models.example. The key goes nowhere else, and into no message."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misused(f"{url!r} is no address of a marketplace: it begins with https:// or http://")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Misused("MARKETPLACE_API_KEY holds something that is no API key: it is one line without spaces.")
        self.url = url.rstrip("/") + "/"
        self._key = key
        self._opener = urllib.request.build_opener(_Stay)

    def at(self, url: str) -> str:
        """What the marketplace calls by an address of its own, by the address that was given."""
        return urljoin(self.url, urlsplit(url).path)

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The `data` of a document. A query is asked again when the connection breaks, a mutation never blindly."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        changes = document.lstrip().startswith("mutation")
        for attempt in range(ATTEMPTS):
            try:
                found = self._content(self.send("POST", self.url + "graphql", body, headers, again=not changes))
            except Cut as cut:
                unknown = " Whether it was done is not known: `marketplace status` shows it." if changes else ""
                raise OutOfReach(f"{cut}.{unknown}") from None
            wait = _retry_after_ms(found)
            if wait is None or attempt == ATTEMPTS - 1:
                break
            time.sleep(min(wait / 1000, LONGEST_WAIT))
        return found

    def act(self, document: str, **input: Any) -> dict[str, Any]:
        """The payload of a mutation's one field. Raises Refused for the first of its errors."""
        (payload,) = self.ask(document, input=input).values()
        for problem in payload.pop("errors"):
            raise Refused(problem["message"], code=problem["code"], path=problem.get("path"))
        return dict(payload)

    def send(
        self,
        method: str,
        url: str,
        body: Optional[bytes] = None,
        headers: Optional[Mapping[str, str]] = None,
        *,
        again: bool = True,
    ) -> Response:
        """The answer. What was not done (429, 503, nobody listens) is sent again, what may have been only if `again`.

        Raises Cut when a connection breaks, OutOfReach when nobody listens.
        """
        headers = {"User-Agent": "marketplace-cli", "Authorization": f"Bearer {self._key}", **(headers or {})}
        for attempt in range(ATTEMPTS):
            answer, last = None, attempt == ATTEMPTS - 1
            request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310  (this marketplace's)
            try:
                answer = self._once(request)
            except OutOfReach:
                if last:
                    raise
            except Cut:
                if last or not again:
                    raise
            if answer is not None and (last or answer.status not in NOT_DONE):
                return answer
            pause(attempt, answer)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, request: urllib.request.Request) -> Response:
        try:
            with self._opener.open(request, timeout=SOCKET_TIMEOUT) as answer:
                return Response(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, error.headers, error.read())
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, (ConnectionRefusedError, socket.gaierror)):
                raise OutOfReach(f"{self.url} cannot be reached: {reason}") from None
            raise Cut(f"The connection to {self.url} broke: {reason or type(reason).__name__}") from None

    def _content(self, answer: Response) -> dict[str, Any]:
        if 300 <= answer.status < 400:
            raise OutOfReach(f"{self.url} sends elsewhere, to {answer.headers.get('Location')}: give that address.")
        try:
            content = json.loads(answer.body)
            errors, data = content.get("errors"), content.get("data")
        except (ValueError, AttributeError):
            raise OutOfReach(f"{self.url} answered {answer.status}, and not as a marketplace does.") from None
        if errors:
            raise Refused(errors[0]["message"], code=errors[0].get("extensions", {}).get("code", ""))
        if not isinstance(data, dict):
            raise OutOfReach(f"{self.url} answered {answer.status} without data.")
        found: dict[str, Any] = data
        return found


def pause(attempt: int, answer: Optional[Response] = None) -> None:
    """As long as the answer's Retry-After says (RFC 9110: seconds or a date), else twice as long each time."""
    asked = None if answer is None else answer.headers.get("Retry-After")
    seconds = None if asked is None else _seconds(asked)
    if seconds is None:
        seconds = 0.5 * 2**attempt
    time.sleep(min(max(seconds, 0.0), LONGEST_WAIT))


def _seconds(retry_after: str) -> Optional[float]:
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


def _retry_after_ms(data: Mapping[str, Any]) -> Optional[float]:
    """Of a mutation that was put off (RateLimited, ModelUnavailable), and may be sent again."""
    for payload in data.values():
        for problem in (payload or {}).get("errors", []):
            wait = problem.get("retryAfterMs", problem.get("retryMaybeAfterMs"))
            if wait is not None:
                return float(wait)
    return None
