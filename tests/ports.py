"""Ports for the servers that tests start."""

import secrets
import socket

# Below those that the kernel gives to whoever asks for any, outgoing connections among them (Linux: from 32768), and
# other than Triton's: nobody else takes one before its server does.
PORTS = range(10_000, 20_000)


def free_port() -> int:
    """On the loopback interface, for TCP."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
