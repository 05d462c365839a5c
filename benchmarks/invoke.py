"""What the marketplace costs on top of Triton: `invokeModel` beside the same call to raw Triton, in turns.

    .venv/bin/python -m benchmarks.invoke [--seconds 3] [--rounds 3] [--callers 1 8 32 64] [--profile FILE]

Starts servers of its own in a temporary folder, PostgreSQL with all promises on (fsync, synchronous_commit), one web
process and one load generator (wrk, one thread), which shares the machine with them. Every answer is checked. Figures
are medians of the rounds; CPU is of each server's whole process tree. With --profile the web process runs under
cProfile, which makes it slower, and what it found is written to FILE.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from marketplace.embedded import servers
from marketplace.embedded.child import Child, start_together
from marketplace.embedded.log import Log
from marketplace.embedded.probes import http_get
from marketplace.embedded.process import PROJECT
from marketplace.embedded.service import Service

HOST = "127.0.0.1"
MODEL = "openlab/add"
DOCUMENT = """
mutation Call($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { id units latencyMs outputs { name datatype shape data } }
    errors { __typename code message path }
  }
}"""
INPUTS = [
    {"name": "A", "datatype": "FP32", "shape": [1], "data": [1.5]},
    {"name": "B", "datatype": "FP32", "shape": [1], "data": [2.25]},
]
ANSWER = "[3.75]"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """What to send where, over and over, and the processes that answer."""

    name: str
    port: int
    path: str
    body: object
    headers: dict[str, str]
    processes: dict[str, int]


@dataclass
class Result:
    """Of each round: calls a second, latencies in milliseconds, CPU seconds a call of each process."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return median(self.rates)

    def cpu_ms(self, process: str) -> float:
        return median(self.cpu[process]) * 1000


# wrk's own script: every answer is checked, and what came out is said in one line of JSON.
SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread); thread:set("wrong", 0) end
function response(status, headers, body)
  if status ~= 200 or not string.find(body, %(answer)s, 1, true) then
    wrong, example = wrong + 1, status .. " " .. body
  end
end
function done(summary, latency, requests)
  local failed, shown = 0, ""
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("wrong")
    shown = thread:get("example") or shown
  end
  local e = summary.errors
  failed = failed + e.connect + e.read + e.write + e.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%s\\n", summary.requests, summary.duration,
                         latency:percentile(50), latency:percentile(99), failed, shown))
end
wrk.method = "POST"
wrk.body = %(body)s
%(headers)s
"""


def script(target: "Target") -> str:
    def lua(text: str) -> str:
        return "[==[" + text + "]==]"

    headers = {"Content-Type": "application/json", **target.headers}
    lines = (f"wrk.headers[ {lua(name)} ] = {lua(value)}" for name, value in headers.items())
    return SCRIPT % {"answer": lua(ANSWER), "body": lua(json.dumps(target.body)), "headers": "\n".join(lines)}


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


async def load(target: Target, callers: int, seconds: float, result: Result) -> None:
    before = {name: cpu_seconds(pid) for name, pid in target.processes.items()}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script(target))
        file.flush()
        wrk = await asyncio.create_subprocess_exec(
            *("wrk", "--threads", "1", "--connections", str(callers), "--duration", f"{seconds:.0f}s"),
            *("--timeout", "10s", "--script", file.name, f"http://{HOST}:{target.port}{target.path}"),
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await wrk.communicate())[0].decode()
    said = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if said is None:
        raise RuntimeError(f"wrk said: {output}")
    _, calls, duration, p50, p99, failed, *example = said.split(" ", 6)
    if int(failed):
        raise RuntimeError(f"{failed} of {calls} answers were wrong, such as {' '.join(example)[:2000]}")
    result.rates.append(int(calls) / int(duration) * 1e6)
    result.p50.append(int(p50) / 1000)
    result.p99.append(int(p99) / 1000)
    for name, pid in target.processes.items():
        result.cpu.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / int(calls))


def web(port: int, profile: str | None) -> Service:
    async def ready(pid: int) -> bool:
        return (await http_get(HOST, port, "/healthz"))[0] == 200

    return Service(
        name="web",
        argv=(
            *(sys.executable, *(["-m", "cProfile", "-o", profile] if profile else [])),
            *("-m", "uvicorn", "marketplace.config.asgi:application", "--no-access-log"),
            *("--host", HOST, "--port", str(port)),
        ),
        ready=ready,
        stop_signal=signal.SIGINT,  # cProfile writes what it found when it is interrupted, not when it is terminated
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


TRITON_NAME = f"""
from marketplace.catalog.models import ModelVersion
print(ModelVersion.objects.get(model__publisher__slug="{MODEL.partition("/")[0]}",
                               model__name="{MODEL.partition("/")[2]}", status="LIVE").triton_name)
"""


async def measure(arguments: argparse.Namespace, data_dir: Path) -> None:
    children: list[Child] = []

    def child(service: Service, environment: dict[str, str]) -> Child:
        children.append(Child(service, environment=environment, journal=log, changed=lambda: None))
        return children[-1]

    with (data_dir / "servers.log").open("w") as stream:
        log = Log(stream)
        try:
            chosen = await asyncio.to_thread(servers.services, data_dir, {})
            lent = {service.name: child(service, dict(os.environ)) for service in chosen}
            await start_together(lent.values())
            environment = {**os.environ, **servers.variables(chosen), "DATA_DIR": str(data_dir), "SECRET_KEY": "bench"}
            for command in (["migrate", "-v0"], ["load_demo"], ["reconcile"]):
                await asyncio.to_thread(manage, environment, *command)
            name = (await asyncio.to_thread(manage, environment, "shell", "-v0", "-c", TRITON_NAME)).split()[-1]
            port = free_port()
            site = child(web(port, arguments.profile), environment)
            await site.start()
            key = json.loads((data_dir / "demo.json").read_text())["apiKeys"]["acme"]
            triton_http = next(service for service in chosen if service.name == "triton").addresses["http"]
            triton_port = int(triton_http.rpartition(":")[2])
            call = {"query": DOCUMENT, "variables": {"input": {"model": MODEL, "inputs": INPUTS}}}
            pids = {who: one.pid or 0 for who, one in {**lent, "web": site}.items()}
            triton = Target(
                "triton",
                triton_port,
                f"/v2/models/{name}/infer",
                {"inputs": INPUTS},
                {},
                {"triton": pids["triton"]},
            )
            marketplace = Target(
                "invokeModel",
                port,
                "/graphql",
                call,
                {"Authorization": f"Bearer {key}"},
                {who: pids[who] for who in ("web", "postgres", "triton")},
            )
            await compare(arguments, triton, marketplace)
            print(f"\nmemory of the web process: {memory_mib(pids['web']):.0f} MiB")
        except BaseException:
            sys.stderr.write((data_dir / "servers.log").read_text()[-4000:])
            raise
        finally:
            await asyncio.gather(*(each.stop() for each in children))


async def compare(arguments: argparse.Namespace, raw: Target, ours: Target) -> None:
    results: dict[tuple[str, int], Result] = {}
    for target in (raw, ours):  # until everything that is kept after its first use has been used
        await load(target, 8, 2, Result())
    for _ in range(arguments.rounds):
        for callers in arguments.callers:
            for target in (raw, ours):
                result = results.setdefault((target.name, callers), Result())
                await load(target, callers, arguments.seconds, result)
    print(
        "| callers | Triton req/s | p50 ms | p99 ms | CPU ms | invokeModel req/s | p50 ms | p99 ms | "
        "CPU ms web | PostgreSQL | Triton | ratio |\n|" + "--:|" * 12
    )
    for callers in arguments.callers:
        theirs, mine = results[raw.name, callers], results[ours.name, callers]
        print(
            f"| {callers} | {theirs.rate:.0f} | {median(theirs.p50):.2f} | {median(theirs.p99):.2f} | "
            f"{theirs.cpu_ms('triton'):.2f} | {mine.rate:.0f} | {median(mine.p50):.2f} | "
            f"{median(mine.p99):.2f} | {mine.cpu_ms('web'):.2f} | {mine.cpu_ms('postgres'):.2f} | "
            f"{mine.cpu_ms('triton'):.2f} | **{mine.rate / theirs.rate:.3f}** |"
        )


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoke", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32, 64])
    if shutil.which("wrk") is None:
        sys.exit("This needs wrk: as root on Debian, apt-get install wrk.")
    data_dir = Path(tempfile.mkdtemp(prefix="marketplace-bench-"))
    try:
        asyncio.run(measure(parser.parse_args(words), data_dir))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
