"""One supervisor to a data folder, and ports that are free: checked before anything is started."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from .service import StartFailed

LISTEN = "0A"


def lock(data_dir: Path) -> IO[str]:
    """Hold the data folder for as long as the answer is open.

    The kernel lets go of it when we die, however that happens: a lock that is held is held by somebody alive.
    """
    file = (data_dir / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise StartFailed(
            f"{data_dir} is in use by the `make run` of process {holder}. Stop that one (kill {holder}, or kill -9 "
            f"{holder} when it hangs), or give this one another folder and port: make run DATA_DIR=... PORT=..."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def check_port(host: str, port: int, setting: str) -> None:
    """Raises StartFailed that names who holds the port, and the setting by which to choose another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the web server will: a port that only closed connections linger on is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise StartFailed(f"Port {port} is for root only. Choose one above 1023: make run {setting}=8080") from None
        except OSError as error:
            raise StartFailed(
                f"Port {port} of {host} is taken{_holder(port)} ({error.strerror}). "
                f"Stop what holds it, or choose another: make run {setting}={port + 1}"
            ) from None


def _holder(port: int) -> str:
    """` by process 17 (nginx)`, or nothing where we may not see whose it is."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(descriptor) in sockets for descriptor in (process / "fd").iterdir()):
                return f" by process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:
            continue
    return ""


def _listening(port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes
