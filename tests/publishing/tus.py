"""Callers of the uploads' door, within this event loop: their bytes come when the test lets them."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from marketplace.publishing import tus
from marketplace.publishing.models import Upload

OCTETS = "application/offset+octet-stream"


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])

    @property
    def error(self) -> str:
        return str(json.loads(self.content)["error"])


@dataclass
class Request:
    """`parts` of the body, with None where the caller hangs up; more may be put into `coming` while it is answered."""

    method: str
    upload: Upload | str
    parts: tuple[bytes | None, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    ends: bool = True

    def __post_init__(self) -> None:
        self.left = False
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue()
        for part in self.parts:
            self.coming.put_nowait(part)

    async def handled(self) -> None:
        """Until everything that has come is dealt with, and more is asked for."""
        await self.coming.join()

    async def answered(self) -> Answered | None:
        """None when the caller had hung up."""
        sent: list[Any] = []
        given = 0

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                given -= 1
                self.coming.task_done()
            if self.ends and self.coming.empty():
                return {"type": "http.request", "body": b"", "more_body": False}
            part = await self.coming.get() if not self.left else None
            given += not self.left
            if part is None:
                self.left = True
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": not (self.ends and self.coming.empty())}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = dict(self.headers)
        if self.parts or not self.ends:
            headers.setdefault("transfer-encoding", "chunked")
        path = self.upload if isinstance(self.upload, str) else f"/uploads/{self.upload.pk}"
        scope = {
            "type": "http",
            "method": self.method,
            "path": path,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "server": ("testserver", 80),
            "scheme": "http",
        }
        await tus.answer(scope, receive, send)
        if not sent:
            return None
        start, *bodies = sent
        return Answered(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in bodies),
        )


@dataclass
class Sender:
    """Somebody with these headers: a key's, or a session's."""

    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, upload: Upload | str, *parts: bytes | None, **headers: str) -> Answered:
        answered = await self.request(method, upload, *parts, **headers).answered()
        assert answered is not None
        return answered

    async def patch(self, upload: Upload, offset: int, *parts: bytes | None, **headers: str) -> Answered | None:
        return await self.patching(upload, offset, *parts, **headers).answered()

    def patching(self, upload: Upload, offset: int, *parts: bytes | None, ends: bool = True, **headers: str) -> Request:
        given = {"upload_offset": str(offset), "content_type": OCTETS, "tus_resumable": "1.0.0"} | headers
        return self.request("PATCH", upload, *parts, ends=ends, **given)

    def request(
        self, method: str, upload: Upload | str, *parts: bytes | None, ends: bool = True, **headers: str
    ) -> Request:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request(method, upload, parts, self.headers | named, ends)

    async def offset(self, upload: Upload) -> int:
        return (await self.ask("HEAD", upload)).offset
