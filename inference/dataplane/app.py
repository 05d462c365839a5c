"""The doors that speak other protocols than GraphQL, ahead of every framework: by path, to the codec that answers."""

from collections.abc import Awaitable, Callable, Mapping

from marketplace.edge import App, Receive, Scope, Send

Door = Callable[[Scope, Receive, Send], Awaitable[None]]


class Dataplane:
    """ASGI: hands what is below one of the `doors`' paths ("/v2") to it, and everything else to `app`."""

    def __init__(self, app: App, doors: Mapping[str, Door]) -> None:
        self.app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = None
        if scope["type"] == "http":
            _root, _slash, path = scope["path"].partition("/")
            door = self._doors.get("/" + path.partition("/")[0])
        await (door or self.app)(scope, receive, send)
