"""The gRPC server: its handlers by name, TLS, limits, health and reflection."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from django.conf import settings
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from inference.oip import SERVICE
from inference.tensors import MAX_TENSOR_BYTES

from .service import Service

# A tensor of the largest size, and what is said about it. More is refused by its length, before any of it is read.
MAX_MESSAGE_BYTES = MAX_TENSOR_BYTES + 1024 * 1024

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),  # what Triton answered is bounded by the gateway
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A client that vanished without a word is noticed, and what it asked for is stopped.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Connections that nobody uses are closed; clients open another one when they need it.
    ("grpc.max_connection_idle_ms", 300_000),
)


class Door:
    """A running server. `port` is the one that it listens at."""

    def __init__(self, server: grpc.aio.Server, port: int, healthy: Any) -> None:
        self._server = server
        self._healthy = healthy
        self.port = port

    async def stop(self, seconds: float) -> None:
        """Takes nothing more, and waits that long for what is under way to be answered; what is left is cut off."""
        await self._healthy.enter_graceful_shutdown()
        await self._server.stop(seconds)


async def start(address: str) -> Door:
    """Listens at `host:port` (port 0: a free one), with TLS when settings.GRPC_TLS_CERTIFICATE names a file.

    Raises RuntimeError when the port is taken, OSError when a file of TLS cannot be read.
    """
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Service(),))
    healthy: Any = health.aio.HealthServicer()
    await healthy.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    if settings.GRPC_TLS_CERTIFICATE:
        port = server.add_secure_port(address, await asyncio.to_thread(_credentials))
    else:
        port = server.add_insecure_port(address)
    await server.start()
    return Door(server, port, healthy)


def _credentials() -> grpc.ServerCredentials:
    key, certificate = (Path(name).read_bytes() for name in (settings.GRPC_TLS_KEY, settings.GRPC_TLS_CERTIFICATE))
    credentials: grpc.ServerCredentials = grpc.ssl_server_credentials([(key, certificate)])
    return credentials
