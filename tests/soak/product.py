"""The whole marketplace on a throwaway folder, kept running by its own keeper, with a proxy at each of web's doors.

          after settle            after admission, after Triton's answer
callers ──────▲────────▶ web ─────────────▲────────▶ Triton
                          └───────────────▲────────▶ PostgreSQL
                                 between COMMIT and its acknowledgement
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

from marketplace.embedded import child, servers
from marketplace.embedded.child import Child, start_together
from marketplace.embedded.log import Log
from marketplace.embedded.postgres import SOCKET_NAME
from marketplace.embedded.process import MARK, PROJECT
from marketplace.embedded.service import Service
from marketplace.embedded.site import Site
from tests.ports import free_port
from tests.proxy import Address, Deaf, Listener, Proxy, Stop

HOST = "127.0.0.1"
MODEL = "openlab/add"
TENANT = "acme"
# How long a call may take; what died with it is held this long and HOLD_MARGIN_SECONDS.
INFERENCE_TIMEOUT_SECONDS = 2

AFTER_ADMISSION = "after admission"
AFTER_ANSWER = "after Triton's answer"
BEFORE_ACKNOWLEDGEMENT = "between COMMIT and its acknowledgement"
AFTER_SETTLE = "after settle"
MOMENTS = (AFTER_ADMISSION, AFTER_ANSWER, BEFORE_ACKNOWLEDGEMENT, AFTER_SETTLE)
SERVICES = ("web", "worker", "beat", "postgres", "valkey", "triton")

# Only the model that is called: five of them would take Triton five times as long to come back.
LOAD_ONE = "from demo import loading; loading.MODELS = ({!r},); loading.load()"


class AtTriton:
    """A call carries its hold's id, a UUID of version 7, both ways; names of models are followed by `-v`."""

    HOLD = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}(?!-v)")

    def asked(self, data: bytes) -> str | None:
        return AFTER_ADMISSION if self.HOLD.search(data) else None

    def answered(self, data: bytes) -> str | None:
        return AFTER_ANSWER if self.HOLD.search(data) else None


class AtPostgres:
    """PostgreSQL's protocol 3: a settle is a Bind of a statement whose Parse named `metering_settle`.

    Its answer is sent together with ReadyForQuery, which in autocommit comes after COMMIT and from nowhere else.
    """

    READY = b"Z\0\0\0\x05I"

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._settles: set[bytes] = set()
        self._settling = False

    def asked(self, data: bytes) -> str | None:
        self._rest += data
        while True:
            # The first message has no type.
            head = 1 if self._started else 0
            length = int.from_bytes(self._rest[head : head + 4], "big")
            if len(self._rest) < head + 4 or len(self._rest) < head + length:
                return None
            kind, body = self._rest[:head], self._rest[head + 4 : head + length]
            self._rest = self._rest[head + length :]
            self._started = True
            if kind == b"P":
                name, statement, _ = body.split(b"\0", 2)
                (self._settles.add if b"metering_settle(" in statement else self._settles.discard)(name)
            elif kind == b"B":
                _, name, _ = body.split(b"\0", 2)
                self._settling = name in self._settles

    def answered(self, data: bytes) -> str | None:
        if not data.endswith(self.READY):
            return None
        settled, self._settling = self._settling, False
        return BEFORE_ACKNOWLEDGEMENT if settled else None


class AtWeb(Deaf):
    """An answer that holds an invocation was settled."""

    def answered(self, data: bytes) -> str | None:
        return AFTER_SETTLE if re.search(rb'"invocation": ?\{', data) else None


class Product:
    """`async with Product(folder)`: everything runs and answers; nothing of it does afterwards."""

    def __init__(self, data_dir: Path, model: str = MODEL) -> None:
        self.data_dir = data_dir
        self.model = model
        self.children: dict[str, Child] = {}
        self.database = ""
        self.key = ""
        self.address: tuple[str, int] = (HOST, 0)
        self.grpc_address = ""
        self._environment = dict(os.environ)
        self.proxies: dict[str, Proxy] = {}
        self._cleaning = AsyncExitStack()
        self._log = Log((data_dir / "servers.log").open("w"))

    async def __aenter__(self) -> Self:
        # A soak kills far more often than anything dies by itself: no pause grows because of it.
        self._cleaning.callback(setattr, child, "SETTLED_SECONDS", child.SETTLED_SECONDS)
        child.SETTLED_SECONDS = 0
        self._cleaning.callback(self._log.stream.close)
        self._cleaning.push_async_callback(self._stop)
        try:
            await self._start()
        except BaseException:
            sys.stderr.write((self.data_dir / "servers.log").read_text()[-4000:])
            await self._cleaning.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleaning.aclose()

    def stop_at(self, moment: str) -> Stop:
        where = {BEFORE_ACKNOWLEDGEMENT: "postgres", AFTER_SETTLE: "web"}.get(moment, "triton")
        return self.proxies[where].stop_at(moment)

    async def kill(self, name: str) -> None:
        """SIGKILL to a service and all that descend from it; returns once none of them is left."""
        while (pid := self.children[name].pid) is None:  # noqa: ASYNC110  (it is being started again)
            await asyncio.sleep(0.02)
        # The parent first: it must not see its children end and do something about it.
        family = [os.pidfd_open(each) for each in (pid, *descendants(pid))]
        try:
            for member in family:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(member, signal.SIGKILL)
            await asyncio.gather(*map(ended, family))
        finally:
            for member in family:
                os.close(member)

    async def answers(self) -> None:
        """Returns once every service runs and says that it is ready."""
        for one in self.children.values():
            while (pid := one.pid) is None or not await one.service.ready(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def manage(self, *words: str) -> str:
        """What `manage.py` prints. Raises CalledProcessError, its output with it."""
        command = [sys.executable, str(PROJECT / "manage.py"), *words]
        return subprocess.run(command, env=self._environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    async def _start(self) -> None:
        # With every promise of PostgreSQL's on, as `make run` has it.
        chosen = {one.name: one for one in await asyncio.to_thread(servers.services, self.data_dir, {})}
        for service in chosen.values():
            self._keep(service, {})
        await start_together(self.children.values())
        variables = servers.variables(list(chosen.values()))
        self.database = variables["DATABASE_URL"]

        (sockets,) = parse_qs(urlsplit(self.database).query)["host"]
        # A short path of its own: the name of a Unix socket has no more than 107 bytes.
        beside = Path(self._cleaning.enter_context(TemporaryDirectory(prefix="soak-")))
        await self._proxy("postgres", f"{sockets}/{SOCKET_NAME}", AtPostgres, str(beside / SOCKET_NAME))
        host, _, port = chosen["triton"].addresses["grpc"].rpartition(":")
        triton = await self._proxy("triton", (host, int(port)), AtTriton, (HOST, 0))
        upstream, grpc_port = (HOST, free_port()), free_port()
        web = await self._proxy("web", upstream, AtWeb, (HOST, 0))
        assert not isinstance(web, str)
        self.address = web

        self._environment |= variables | {
            "TRITON_URLS": f"{triton[0]}:{triton[1]}",
            "DATA_DIR": str(self.data_dir),
            "SECRET_KEY": "soak",
            "PORT": str(upstream[1]),
            "GRPC_PORT": str(grpc_port),
            "INFERENCE_TIMEOUT_SECONDS": str(INFERENCE_TIMEOUT_SECONDS),
        }
        self.grpc_address = f"{HOST}:{grpc_port}"
        for words in (
            ("migrate", "-v0"),
            ("shell", "-v0", "-c", LOAD_ONE.format(self.model.partition("/")[2])),
            ("reconcile", "--skip-checks"),
        ):
            await asyncio.to_thread(self.manage, *words)
        self.key = json.loads((self.data_dir / "demo.json").read_text())["apiKeys"][TENANT]
        for service in Site(self._environment, self.data_dir).services():
            through_proxy = {"DATABASE_URL": self.database.replace(quote(sockets), quote(str(beside)))}
            self._keep(service, self._environment | (through_proxy if service.name == "web" else {}))
        await start_together(self.children[name] for name in ("web", "worker", "beat"))

    def _keep(self, service: Service, environment: dict[str, str]) -> None:
        environment = {**os.environ, **environment, MARK: str(self.data_dir)}
        self.children[service.name] = Child(service, environment=environment, journal=self._log, changed=lambda: None)

    async def _proxy(self, name: str, upstream: Address, listener: type[Listener], address: Address) -> Address:
        proxy = self.proxies[name] = Proxy(upstream, listener)
        listening = await proxy.serve(address)
        self._cleaning.push_async_callback(proxy.go_away)
        return listening

    async def _stop(self) -> None:
        await asyncio.gather(*(one.stop() for one in self.children.values()))


def descendants(root: int) -> list[int]:
    """PostgreSQL's children leave its process group, so it is asked who was whose parent."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found[1:]


async def ended(pidfd: int) -> None:
    """Returns once the process has ended."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(pidfd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(pidfd)
