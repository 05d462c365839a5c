"""The server process: every door in one event loop. `python -m marketplace.config.server` listens on HOST, for HTTP at
PORT and for gRPC at GRPC_PORT.

On SIGTERM it accepts nobody new, lets what is under way finish for DRAIN_SECONDS, and then ends that with an error that
says to try again. Whoever asks meanwhile, on a connection that is open already, hears the same.
"""

import asyncio
import socket
import sys

import uvicorn

from marketplace.config.asgi import application

# What is above sets Django up, which the rest needs.
# isort: split
from inference.dataplane import grpc_v2
from marketplace import draining
from marketplace.config.environment import Environment
from marketplace.config.protocols import HTTPConnection, WebSocketConnection
from marketplace.metering.heartbeats import end_all

MAX_WEBSOCKET_MESSAGE_BYTES = 1024 * 1024
# For saying goodbye, once everything has ended.
FAREWELL_SECONDS = 3
# Longer than clients keep an idle connection, so that none asks on one that is just being closed: 5 s are usual, and
# uvicorn's default.
KEEP_ALIVE_SECONDS = 75


class Server(uvicorn.Server):
    def __init__(self, environment: Environment) -> None:
        self._drain_seconds = environment.drain_seconds
        host = f"[{environment.host}]" if ":" in environment.host else environment.host
        self._grpc_address = f"{host}:{environment.grpc_port}"
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
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(self._drain_seconds) + FAREWELL_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            self._grpc = await grpc_v2.start(self._grpc_address)
        except (RuntimeError, OSError) as error:
            sys.exit(f"The gRPC server cannot start at {self._grpc_address} (GRPC_PORT, GRPC_TLS_…): {error}")
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining.ending().set()
        last_call = asyncio.get_running_loop().call_later(self._drain_seconds, end_all, draining.interrupted())
        await asyncio.gather(super().shutdown(sockets), self._grpc.stop(self._drain_seconds + FAREWELL_SECONDS))
        last_call.cancel()


if __name__ == "__main__":
    Server(Environment().resolved()).run()
