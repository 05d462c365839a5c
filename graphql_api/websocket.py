"""GraphQL over WebSocket: graphql-transport-ws (PROTOCOL.md of github.com/enisdenjo/graphql-ws), at /graphql.

Who asks is said by the header Authorization, by the same in the payload of `connection_init`, or by the session of a
page of this site; and it is looked up anew for each operation, as for each request by HTTP.
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Any, NoReturn

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from graphql import GraphQLError

from inference.records import hand_back_connection
from marketplace.draining import ending
from marketplace.edge import App, Receive, Scope, Send
from marketplace.errors import MarketplaceError, RateLimited, Unauthenticated
from marketplace.tenants.sessions import CsrfCheck, request_of

from .context import Context, context_of
from .errors import formatted, request_error
from .execution import answers, content, encoded, opened
from .limits import RefusedError
from .views import RequestRefusedError, checked, parsed

PATH = "/graphql"
PROTOCOL = "graphql-transport-ws"
TYPES = ("connection_init", "ping", "pong", "subscribe", "complete")

# What does not fit is sent by HTTP.
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_ID_CHARACTERS = 128
MAX_OPERATIONS = 16
SECONDS_TO_INITIALISE = 10
SECONDS_IDLE = 600
# How long a client may leave what it was sent untaken. Its operations wait meanwhile, and the units set aside for them.
SECONDS_TO_TAKE = 30


class Sockets:
    """ASGI: speaks graphql-transport-ws at PATH, refuses every other WebSocket, and hands all else to `app`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        await receive()  # websocket.connect
        if scope["path"] != PATH:
            await send({"type": "websocket.close"})  # before it is accepted: 403
            return
        spoken = PROTOCOL in scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL if spoken else None})
        if spoken:
            closed = await _Socket(scope, receive, send).serve()
        else:
            closed = _Closed(4406, "Subprotocol not acceptable")
        if closed.code is not None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(SECONDS_TO_TAKE):
                    await send({"type": "websocket.close", "code": closed.code, "reason": closed.reason})


class _Closed(Exception):
    """The socket is at its end: by us with this code and reason, or (None) by the client."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Socket:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._authorization: str | None = None
        self._acknowledged = False
        # By the client's ids; and all, with those that it has completed and that are being ended.
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._patience = asyncio.timeout(None)

    async def serve(self) -> _Closed:
        """Until it is closed: why."""
        try:
            # An exception in one of its tasks, or here, cancels all the others and waits for them.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._leave())
                await self._initialise()
                await self._listen(tasks)
        except BaseExceptionGroup as group:
            closed, others = group.split(_Closed)
            if others is not None or closed is None:
                raise
            return _first(closed)

    async def _leave(self) -> NoReturn:
        """Once the server is about to end, and nothing is under way here any more."""
        await ending().wait()
        await self._quiet.wait()
        raise _Closed(1012, "Service Restart")

    async def _initialise(self) -> None:
        try:
            async with asyncio.timeout(SECONDS_TO_INITIALISE):
                while not self._acknowledged:
                    message = await self._message()
                    match message["type"]:
                        case "connection_init":
                            await self._identify(message.get("payload"))
                            self._acknowledged = True
                        case "ping":
                            await self._pong(message)
                        case "subscribe":
                            raise _Closed(4401, "Unauthorized")
        except TimeoutError:
            raise _Closed(4408, "Connection initialisation timeout") from None
        await self._tell({"type": "connection_ack"})

    async def _listen(self, tasks: asyncio.TaskGroup) -> NoReturn:
        while True:
            try:
                async with asyncio.timeout(None if self._under_way else SECONDS_IDLE) as self._patience:
                    message = await self._message()
            except TimeoutError:
                raise _Closed(1000, "Idle") from None
            match message["type"]:
                case "connection_init":
                    raise _Closed(4429, "Too many initialisation requests")
                case "ping":
                    await self._pong(message)
                case "subscribe":
                    await self._subscribe(tasks, message)
                case "complete" if (task := self._operations.pop(_id(message), None)) is not None:
                    task.cancel()

    async def _message(self) -> dict[str, Any]:
        """The next one, whole and well-formed; payloads are checked where they are used."""
        received = await self._receive()
        if received["type"] == "websocket.disconnect":
            raise _Closed
        text = received.get("text")
        if text is None:
            raise _Closed(4400, "Messages are text")
        # A character has at least one byte: most texts need not be encoded to be counted.
        if len(text) > MAX_MESSAGE_BYTES:
            raise _Closed(1009, "Message too big")
        try:
            message = parsed(text.encode(), "The message")
        except (RequestRefusedError, UnicodeEncodeError):
            raise _Closed(4400, "Messages are JSON") from None
        if not isinstance(message, dict) or message.get("type") not in TYPES:
            raise _Closed(4400, "Unknown message type")
        if not isinstance(message.get("payload"), dict | None):
            raise _Closed(4400, "A payload is an object")
        return message

    async def _pong(self, message: dict[str, Any]) -> None:
        await self._tell({"type": "pong"} | ({"payload": message["payload"]} if message.get("payload") else {}))

    async def _identify(self, payload: dict[str, Any] | None) -> None:
        """Closes the socket for whoever is not whom they say they are; nobody in particular is somebody."""
        given = {name.lower(): value for name, value in (payload or {}).items()}.get("authorization")
        if not isinstance(given, str | None):
            raise _Closed(4400, "Authorization is a string")
        self._authorization = given
        request = self._request()
        if self._speaks_for_a_browser(request) and not _is_from_this_site(request):
            raise _Closed(4403, "Forbidden")
        try:
            async with ThreadSensitiveContext():
                await self._context(request)
        except Unauthenticated:
            raise _Closed(4403, "Forbidden") from None
        except MarketplaceError:
            raise _Closed(1013, "Try again later") from None

    async def _subscribe(self, tasks: asyncio.TaskGroup, message: dict[str, Any]) -> None:
        id = _id(message)
        if id in self._operations:
            raise _Closed(4409, f"Subscriber for {id} already exists"[:123])
        try:
            asked = checked(message.get("payload") or {})
        except RequestRefusedError:
            raise _Closed(4400, "The payload of subscribe has a `query`") from None
        if self._under_way >= MAX_OPERATIONS:
            problem = RateLimited(
                _("This socket has %(most)d operations under way, which is the most.") % {"most": MAX_OPERATIONS},
                retry_after_ms=1000,
            )
            await self._tell({"id": id, "type": "error", "payload": [request_error(problem)]})
            return
        self._under_way += 1
        self._quiet.clear()
        self._operations[id] = task = tasks.create_task(self._operate(id, *asked))
        task.add_done_callback(lambda task: self._done(id, task))

    def _done(self, id: str, task: "asyncio.Task[None]") -> None:
        self._under_way -= 1
        if self._operations.get(id) is task:
            del self._operations[id]
        if not self._under_way:
            self._quiet.set()
            with suppress(RuntimeError):  # just now, nobody waits for a message
                self._patience.reschedule(asyncio.get_running_loop().time() + SECONDS_IDLE)

    async def _operate(self, id: str, document: str, variables: dict[str, Any] | None, name: str | None) -> None:
        # A thread of its own for what the ORM does, as Django gives each request one.
        async with ThreadSensitiveContext():
            try:
                operation = opened(document, variables, name)
                context = await self._context(self._request())
                async with aclosing(answers(context, operation)) as results:
                    async for result in results:
                        if not result.executed:
                            await self._tell({"id": id, "type": "error", "payload": result.errors})
                            return
                        await self._tell({"id": id, "type": "next", "payload": content(result)})
                await self._save(context)
                await self._tell({"id": id, "type": "complete"})
            except RefusedError as refused:
                await self._tell({"id": id, "type": "error", "payload": formatted(refused.errors)})
            except MarketplaceError as error:
                await self._tell({"id": id, "type": "error", "payload": [request_error(error)]})
            except (_Closed, asyncio.CancelledError):
                raise
            except Exception as error:  # masked, and logged once, as everywhere
                masked = formatted([GraphQLError("", original_error=error)])
                await self._tell({"id": id, "type": "error", "payload": masked})
            finally:
                await hand_back_connection()

    async def _tell(self, message: dict[str, Any]) -> None:
        """Waits until the client takes what it was told before."""
        try:
            async with asyncio.timeout(SECONDS_TO_TAKE):
                await self._send({"type": "websocket.send", "text": encoded(message).decode()})
        except (OSError, TimeoutError):
            # Who does not read would not read why, either.
            raise _Closed from None

    def _request(self) -> HttpRequest:
        """The handshake as Django would have it, for one operation."""
        request = request_of(self._scope)
        if self._authorization is not None:
            request.META["HTTP_AUTHORIZATION"] = self._authorization
        return request

    async def _context(self, request: HttpRequest) -> Context:
        try:
            return await context_of(request)
        finally:
            await hand_back_connection()

    @staticmethod
    def _speaks_for_a_browser(request: HttpRequest) -> bool:
        return "HTTP_AUTHORIZATION" not in request.META and settings.SESSION_COOKIE_NAME in request.COOKIES

    @staticmethod
    async def _save(context: Context) -> None:
        session = context.request.session
        if session.modified:
            await sync_to_async(session.save)()


def _id(message: dict[str, Any]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not 0 < len(id) <= MAX_ID_CHARACTERS:
        raise _Closed(4400, f"An id is a string of 1 to {MAX_ID_CHARACTERS} characters")
    return id


def _is_from_this_site(request: HttpRequest) -> bool:
    """A browser sends the session's cookie along whatever page opens the socket, and says which one in Origin."""
    if "HTTP_ORIGIN" not in request.META:
        return False
    return bool(CsrfCheck(_unused)._origin_verified(request))  # type: ignore[attr-defined]  # the stubs lack it


def _unused(_request: HttpRequest) -> HttpResponse:
    raise AssertionError("only process_request is asked")


def _first(group: BaseExceptionGroup[_Closed]) -> _Closed:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
