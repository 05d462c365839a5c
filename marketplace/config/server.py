"""The server process: every door in one event loop. `python -m marketplace.config.server` listens on HOST and PORT.

On SIGTERM it accepts nobody new, lets what is under way finish for DRAIN_SECONDS, and then ends that with an error that
says to try again. Whoever asks meanwhile, on a connection that is open already, hears the same.
"""

import asyncio
import socket

import uvicorn

from marketplace import draining
from marketplace.config.asgi import application
from marketplace.config.environment import Environment
from marketplace.config.protocols import HTTPConnection, WebSocketConnection
from marketplace.metering.heartbeats import end_all

MAX_WEBSOCKET_MESSAGE_BYTES = 1024 * 1024
# For saying goodbye, once everything has ended.
FAREWELL_SECONDS = 3


class Server(uvicorn.Server):
    def __init__(self, environment: Environment) -> None:
        self._drain_seconds = environment.drain_seconds
        super().__init__(
            uvicorn.Config(
                application,
                host=environment.host,
                port=environment.port,
                http=HTTPConnection,
                ws=WebSocketConnection,
                ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=int(self._drain_seconds) + FAREWELL_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining.ending().set()
        last_call = asyncio.get_running_loop().call_later(self._drain_seconds, end_all, draining.interrupted())
        await super().shutdown(sockets)
        last_call.cancel()


if __name__ == "__main__":
    Server(Environment().resolved()).run()
