"""Bodies that are too large are refused before they are read: under ASGI, Django spools a body before any view runs."""

import json

from marketplace.edge import App, Message, Receive, Scope, Send, refuse_body, too_large

from .limits import MAX_BODY_BYTES


class BodyLimit:
    """ASGI: answers 413 to a body of more than `most` bytes, by its Content-Length or as soon as it is past that."""

    def __init__(self, app: App, most: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self.most:
            await self._refuse(receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # To the application this caller is gone: it gives up without an answer.
            return {"type": "http.disconnect"} if received > self.most else message

        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        await self.app(scope, counted, noted)
        if received > self.most and not started:
            await self._refuse(receive, send)

    async def _refuse(self, receive: Receive, send: Send) -> None:
        error = too_large(self.most)
        content = {"errors": [{"message": error.message, "extensions": {"code": "BAD_REQUEST"}}]}
        headers = [(b"content-type", b"application/json; charset=utf-8")]
        await refuse_body(receive, send, error.http_status, headers, json.dumps(content).encode())
