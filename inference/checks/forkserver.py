"""The process that the sandbox forks its children from: what they need is imported once, and no secret is in it.

It starts afresh (no memory and no environment of the worker's), takes one order at a time from its standard input, a
socket, and ends when the worker closes that or dies. `python -I forkserver.py <folder of this project> <entry>`, where
the entry is `module:function` and takes the artefact's descriptor, `tell` and the order's `given`; the module's
`warm_up()` runs beforehand, so that nothing is left to open by the time that a child may open nothing.

An order is one datagram: {"memory_bytes", "cpu_seconds", "seconds", "given"} with two descriptors, the artefact and
where the child writes what it has to tell. The answer is one datagram: {"ended": "exit" | "signal" | "timeout",
"code", "seconds", "cpu_seconds", "peak_bytes"}.
"""

import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

MAX_ORDER_BYTES = 64 * 1024

Tell = Callable[[dict[str, Any]], None]
Entry = Callable[[int, Tell, Any], None]


def serve(entry: Entry) -> None:
    orders = socket.socket(fileno=os.dup(0))
    while True:
        content, descriptors, _flags, _address = socket.recv_fds(orders, MAX_ORDER_BYTES, 2)
        if not content:
            return
        answer = obey(orders, json.loads(content), entry, *descriptors)
        orders.send(json.dumps(answer).encode())


def obey(orders: socket.socket, order: dict[str, Any], entry: Entry, artifact: int, told: int) -> dict[str, Any]:
    resident, _data = confinement.memory_now()
    server = os.getpid()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run_confined(order, entry, artifact, told, resident=resident, server=server)
    os.close(artifact)
    os.close(told)
    in_time = wait(child, orders, order["seconds"])
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _pid, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    by_limit = -code in (signal.SIGXCPU, signal.SIGPROF) or (
        code == -signal.SIGKILL and cpu_seconds >= order["cpu_seconds"]
    )
    too_long = not in_time or by_limit
    return {
        "ended": "timeout" if too_long else "signal" if code < 0 else "exit",
        "code": abs(code),
        "seconds": time.monotonic() - started,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def wait(child: int, orders: socket.socket, seconds: float) -> bool:
    """Whether it ended by itself in that time, and before the worker died. It can have no children of its own."""
    descriptor = os.pidfd_open(child)
    try:
        return descriptor in select.select([descriptor, orders.fileno()], [], [], seconds)[0]
    finally:
        os.close(descriptor)


def run_confined(order: dict[str, Any], entry: Entry, artifact: int, told: int, *, resident: int, server: int) -> None:
    """In the child. It never returns."""
    code = 1
    try:
        confinement.die_with_parent(server)
        # Our socket to the worker is not for it to speak on.
        first, second = sorted((artifact, told))
        for low, high in ((3, first), (first + 1, second), (second + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(low, high)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        os.close(nothing)

        def tell(line: dict[str, Any]) -> None:
            content = json.dumps(line).encode() + b"\n"
            while content:
                content = content[os.write(told, content) :]

        confinement.confine(
            memory_bytes=order["memory_bytes"], cpu_seconds=order["cpu_seconds"], resident_bytes=resident
        )
        tell({"confined": True})
        entry(artifact, tell, order["given"])
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    folder, name = sys.argv[1:]
    sys.path.insert(0, folder)
    from inference.checks import confinement  # the folder of the project is known from here on

    module = importlib.import_module(name.partition(":")[0])
    module.warm_up()
    serve(getattr(module, name.partition(":")[2]))
