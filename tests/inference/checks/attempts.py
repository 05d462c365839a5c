"""What hostile code would try once it ran in the sandbox: each attempt tells how it went."""

import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Tell = Callable[[dict[str, Any]], None]

_libc = ctypes.CDLL(None, use_errno=True)
X86_64_OPENAT, ARM64_OPENAT, X32_OPENAT = 257, 56, 0x40000000 | 257
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def warm_up() -> None:
    return None


def attempt(artifact: int, tell: Tell, given: Any) -> None:
    try:
        tell({"result": ATTEMPTS[given["what"]](artifact, tell, given)})
    except OSError as error:
        tell({"error": error.errno, "name": type(error).__name__})
    except (MemoryError, RuntimeError, ValueError) as error:
        tell({"name": type(error).__name__})


def read(_artifact: int, _tell: Tell, given: Any) -> Any:
    with open(given["path"]) as file:
        return file.read()


def read_by_system_call(_artifact: int, _tell: Tell, given: Any) -> Any:
    """Past the C library, also by the other numbers that x86-64 has."""
    found = []
    for number in (X86_64_OPENAT, ARM64_OPENAT, X32_OPENAT):
        descriptor = _libc.syscall(number, -100, given["path"].encode(), 0, 0)
        found.append(descriptor if descriptor < 0 else os.read(descriptor, 100).decode())
    return found


def write(_artifact: int, _tell: Tell, given: Any) -> Any:
    with open(given["path"], "w") as file:
        return file.write("here")


def connect(_artifact: int, _tell: Tell, given: Any) -> Any:
    with socket.socket(socket.AF_INET) as opened:
        opened.connect(("127.0.0.1", given["port"]))
        return "connected"


def thread(_artifact: int, _tell: Tell, _given: Any) -> Any:
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "started"


def unshare(_artifact: int, _tell: Tell, _given: Any) -> Any:
    return _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def fork_bomb(_artifact: int, _tell: Tell, _given: Any) -> Any:
    failures = 0
    for _ in range(1000):
        try:
            os.fork()
        except OSError:
            failures += 1
    return failures


def fill_memory(_artifact: int, _tell: Tell, given: Any) -> Any:
    return len([bytearray(b"x" * 2**20) for _ in range(given["mebibytes"])])


def share_memory(_artifact: int, _tell: Tell, given: Any) -> Any:
    """Shared pages are not counted as data."""
    held = []
    for _ in range(given["mebibytes"]):
        pages = mmap.mmap(-1, 2**20)
        pages.write(b"x" * 2**20)
        held.append(pages)
    return len(held)


def lift_limits(_artifact: int, _tell: Tell, _given: Any) -> Any:
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "lifted"


def spin(_artifact: int, _tell: Tell, _given: Any) -> Any:
    while True:
        pass


def spin_timed(artifact: int, tell: Tell, given: Any) -> Any:
    signal.setitimer(signal.ITIMER_PROF, 0.05)
    return spin(artifact, tell, given)


def spin_deaf(artifact: int, tell: Tell, given: Any) -> Any:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    return spin(artifact, tell, given)


def sleep(_artifact: int, _tell: Tell, _given: Any) -> Any:
    time.sleep(600)


def chatter(_artifact: int, tell: Tell, _given: Any) -> Any:
    while True:
        tell({"word": "x" * 10_000})


def babble(_artifact: int, tell: Tell, _given: Any) -> Any:
    teller = next(cell.cell_contents for cell in tell.__closure__ or () if isinstance(cell.cell_contents, int))
    os.write(teller, b'\xff\xfe\n[1, 2]\n{"a": NaN\n' + b"[" * 100_000 + b"\n17\n")
    return "said"


def descriptors(artifact: int, _tell: Tell, _given: Any) -> Any:
    """Those that are open besides the three standard ones."""
    found = []
    for descriptor in range(3, 1024):
        try:
            os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
        found.append(descriptor)
    return found


ATTEMPTS: dict[str, Callable[[int, Tell, Any], Any]] = {
    "read": read,
    "read_by_system_call": read_by_system_call,
    "list": lambda _artifact, _tell, given: os.listdir(given["path"]),
    "stat": lambda _artifact, _tell, given: os.stat(given["path"]).st_size,
    "write": write,
    "write_artifact": lambda artifact, _tell, _given: os.pwrite(artifact, b"changed", 0),
    "read_artifact": lambda artifact, _tell, _given: os.read(artifact, 100).decode(),
    "environment": lambda _artifact, _tell, _given: dict(os.environ),
    "arguments": lambda _artifact, _tell, _given: sys.orig_argv,
    "connect": connect,
    "execute": lambda _artifact, _tell, _given: subprocess.run(["/bin/true"], check=True).returncode,
    "thread": thread,
    "unshare": unshare,
    "fork_bomb": fork_bomb,
    "kill_parent": lambda _artifact, _tell, given: os.kill(given["pid"], signal.SIGKILL),
    "fill_memory": fill_memory,
    "share_memory": share_memory,
    "lift_limits": lift_limits,
    "spin": spin,
    "spin_deaf": spin_deaf,
    "spin_timed": spin_timed,
    "sleep": sleep,
    "chatter": chatter,
    "babble": babble,
    "descriptors": descriptors,
    "crash": lambda _artifact, _tell, _given: ctypes.string_at(0),
}
