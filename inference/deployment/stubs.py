"""The processes in which a Triton beside us runs its Python-based models (python_backend's stubs).

When one dies, Triton goes on to call the model ready, and every call of it fails.
"""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
HERE = frozenset({"127.0.0.1", "localhost", "[::1]"})
USUAL_GRPC_PORT = "8001"

# Triton's name of one of a model's instances; those of an ensemble's step follow the ensemble's name.
_INSTANCE = re.compile(r"([^.]+)(?:\..+)?_\d+_\d+")
_STUB = b"triton_python_backend_stub"
_SERVER = 5  # which argument of a stub's is the process id of its server
_NAME = 8  # and which the name of the instance


@dataclass(slots=True)
class Processes:
    """Of one version: how many there are, and the memory that they have, in bytes."""

    count: int = 0
    memory_bytes: int = 0


def running(endpoint: str) -> dict[str, Processes] | None:
    """By the name of the version. None when the endpoint is none of this machine, or cannot be seen."""
    host, _colon, port = endpoint.rpartition(":")
    if host not in HERE:
        return None
    found: dict[str, Processes] = defaultdict(Processes)
    servers: dict[bytes, bool] = {}
    for folder in PROC.glob("[0-9]*"):
        arguments = _arguments(folder)
        if not arguments[0].endswith(_STUB) or len(arguments) <= _NAME:
            continue
        server = arguments[_SERVER]
        if server not in servers:
            servers[server] = _listens(_arguments(PROC / server.decode()), port)
        name = _INSTANCE.fullmatch(arguments[_NAME].decode())
        if servers[server] and name:
            processes = found[name[1]]
            processes.count += 1
            processes.memory_bytes += _memory(folder)
    return dict(found)


def _arguments(folder: Path) -> list[bytes]:
    """Of a process; nothing of one that has ended."""
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def _listens(arguments: list[bytes], port: str) -> bool:
    named = [each.partition(b"=")[2].decode() for each in arguments if each.startswith(b"--grpc-port=")]
    return port == (named[-1] if named else USUAL_GRPC_PORT)


def _memory(folder: Path) -> int:
    try:
        return int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
