"""What the benchmarks run beside: servers of their own, started for them and stopped behind them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from marketplace.embedded import servers
from marketplace.embedded.child import Child, start_together
from marketplace.embedded.log import Log
from marketplace.embedded.probes import http_get
from marketplace.embedded.process import PROJECT
from marketplace.embedded.service import Service

HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
LOAD_DEMO = ("load_demo",)


@dataclass(frozen=True)
class Rig:
    """PostgreSQL with all promises on (fsync, synchronous_commit), Valkey, one Triton, and one web process.

    `port` and `triton_port` speak HTTP, `grpc_port` and `triton_grpc_port` gRPC. `keys`: an API key of each tenant, by
    its slug. `pids` by the names "postgres", "valkey", "triton" and "web".
    """

    environment: dict[str, str]
    port: int
    grpc_port: int
    triton_port: int
    triton_grpc_port: int
    keys: dict[str, str]
    pids: dict[str, int]

    def processes(self, *names: str) -> dict[str, int]:
        return {name: self.pids[name] for name in names}

    async def triton_name(self, ref: str) -> str:
        """What Triton calls the live version of `publisher/name`."""
        publisher, _slash, name = ref.partition("/")
        script = (
            "from marketplace.catalog.models import ModelVersion; print(ModelVersion.objects.get("
            f"model__publisher__slug={publisher!r}, model__name={name!r}, status='LIVE').triton_name)"
        )
        return (await asyncio.to_thread(manage, self.environment, "shell", "-v0", "-c", script)).split()[-1]


@asynccontextmanager
async def started(*, load: tuple[str, ...] = LOAD_DEMO, profile: str | None = None) -> AsyncIterator[Rig]:
    """All of them in a temporary folder, after `manage.py` has run `load`; with `profile`, a file, the web process runs
    under cProfile, which makes it slower. What the servers said is printed if anything fails."""
    children: list[Child] = []

    def child(service: Service, environment: dict[str, str]) -> Child:
        children.append(Child(service, environment=environment, journal=log, changed=lambda: None))
        return children[-1]

    with tempfile.TemporaryDirectory(prefix="marketplace-bench-", ignore_cleanup_errors=True) as folder:
        data_dir = Path(folder)
        said = data_dir / "servers.log"
        with said.open("w") as stream:
            log = Log(stream)
            try:
                chosen = await asyncio.to_thread(servers.services, data_dir, {})
                await start_together([child(service, dict(os.environ)) for service in chosen])
                environment = os.environ | servers.variables(chosen)
                environment |= {"DATA_DIR": folder, "SECRET_KEY": "bench"}
                for command in (("migrate", "-v0"), load, ("reconcile",)):
                    await asyncio.to_thread(manage, environment, *command)
                port, grpc_port = free_port(), free_port()
                listen = {"HOST": HOST, "PORT": str(port), "GRPC_PORT": str(grpc_port)}
                await child(_web(port, profile), environment | listen).start()
                triton = next(service for service in chosen if service.name == "triton")
                yield Rig(
                    environment=environment,
                    port=port,
                    grpc_port=grpc_port,
                    triton_port=_port(triton.addresses["http"]),
                    triton_grpc_port=_port(triton.addresses["grpc"]),
                    keys=json.loads((data_dir / "demo.json").read_text())["apiKeys"],
                    pids={one.service.name: one.pid or 0 for one in children},
                )
            except BaseException:
                sys.stderr.write(said.read_text()[-4000:])
                raise
            finally:
                await asyncio.gather(*(each.stop() for each in children))


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _web(port: int, profile: str | None) -> Service:
    async def ready(pid: int) -> bool:
        return (await http_get(HOST, port, "/healthz"))[0] == 200

    return Service(
        name="web",
        argv=(
            *(sys.executable, *(["-m", "cProfile", "-o", profile] if profile else [])),
            *("-m", "marketplace.config.server"),
        ),
        ready=ready,
        stop_signal=signal.SIGINT,  # cProfile writes what it found when it is interrupted, not when it is terminated
    )


def cpu_seconds(root: int) -> float:
    """User and system time of a process and all that descend from it, the ended ones included."""
    parents, times = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(path.parent.name)
        parents[pid] = int(words[1])
        times[pid] = sum(map(int, words[11:15])) / TICKS
    total = 0.0
    for pid, seconds in times.items():
        ancestor = pid
        while ancestor not in (root, 0, 1):
            ancestor = parents.get(ancestor, 0)
        total += seconds if ancestor == root else 0.0
    return total


def memory_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
