"""What a quiet tenant notices of a loud one: its latencies alone and beside one that sends ten times as much, in turns.

    .venv/bin/python -m benchmarks.fairness [--rate 20] [--times 10] [--seconds 10] [--rounds 6]

Starts servers of its own in a temporary folder, PostgreSQL with all promises on, and one web process. Calls leave at a
fixed rate whatever became of those before them, and are measured from when they were due: a call that waits behind a
slow one counts as slow. The aim is that the ratio of the p99s stays below 2.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from time import perf_counter

import uvloop

from . import rig
from .invoke import ANSWER, DOCUMENT, INPUTS, MODEL
from .rig import HOST

QUIET, LOUD = "globex", "acme"
# uvicorn closes a connection that has been idle for 5 s.
KEPT_SECONDS = 3.0
NAME = MODEL.partition("/")[2]
# One model, and both tenants subscribed to it.
LOAD = f"""
from demo import loading
from marketplace.tenants.models import Tenant
loading.MODELS = ({NAME!r},)
loading.load()
loading._subscribe(loading._principal(Tenant.objects.get(slug={QUIET!r})), {NAME!r})
"""


def length_of(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])


def post(port: int, path: str, body: object, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}:{port}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


class Sender:
    """One tenant: so many calls a second, on as many connections as that takes."""

    def __init__(self, port: int, key: str, rate: float) -> None:
        call = {"query": DOCUMENT, "variables": {"input": {"model": MODEL, "inputs": INPUTS}}}
        self.request = post(port, "/graphql", call, f"Authorization: Bearer {key}")
        self.port = port
        self.rate = rate
        self.refused = 0
        self.idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, seconds: float) -> list[float]:
        """Seconds from when each call was due until its answer was here."""
        started = perf_counter()
        calls = []
        for number in range(int(self.rate * seconds)):
            due = started + number / self.rate
            await asyncio.sleep(due - perf_counter())
            calls.append(asyncio.create_task(self._call(due)))
        return await asyncio.gather(*calls)

    async def _call(self, due: float) -> float:
        since, reader, writer = self.idle.pop() if self.idle else (perf_counter(), None, None)
        if reader is None or writer is None or perf_counter() - since > KEPT_SECONDS:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(length_of(head))
        if ANSWER.encode() not in body:
            if b"MODEL_UNAVAILABLE" not in body:
                raise RuntimeError(f"not the answer: {body[:2000]!r}")
            self.refused += 1
        self.idle.append((perf_counter(), reader, writer))
        return perf_counter() - due


def percentile(latencies: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(latencies)[min(int(len(latencies) * share), len(latencies) - 1)] * 1000


async def compare(arguments: argparse.Namespace, quiet: Sender, loud: Sender) -> None:
    await asyncio.gather(quiet.send(2), loud.send(2))  # until everything that is kept after its first use has been used
    quiet.refused = loud.refused = 0
    alone: list[float] = []
    beside: list[float] = []
    ratios = []
    for number in range(2 * arguments.rounds):
        # Turn about, so that neither is always the one that comes first.
        if number % 4 in (0, 3):
            first = await quiet.send(arguments.seconds)
            alone += first
        else:
            second, _ = await asyncio.gather(quiet.send(arguments.seconds), loud.send(arguments.seconds))
            beside += second
        if number % 2:
            ratios.append(percentile(second, 0.99) / percentile(first, 0.99))
    print("| quiet tenant | calls | p50 ms | p90 ms | p99 ms |\n|---|--:|--:|--:|--:|")
    for name, latencies in (("alone", alone), (f"beside one with {loud.rate:g} calls/s", beside)):
        figures = " | ".join(f"{percentile(latencies, share):.2f}" for share in (0.5, 0.9, 0.99))
        print(f"| {name} | {len(latencies)} | {figures} |")
    print(f"\nratio of the p99s: {percentile(beside, 0.99) / percentile(alone, 0.99):.2f}")
    print("of each round:", ", ".join(f"{ratio:.2f}" for ratio in ratios))
    print(f"told to try again, counted above: {quiet.refused} calls of the quiet one, {loud.refused} of the loud one")
    print(f"load average of the machine: {os.getloadavg()[0]:.1f}")


async def measure(arguments: argparse.Namespace) -> None:
    async with rig.started(load=("shell", "-v0", "-c", LOAD)) as servers:
        quiet = Sender(servers.port, servers.keys[QUIET], arguments.rate)
        loud = Sender(servers.port, servers.keys[LOUD], arguments.rate * arguments.times)
        await compare(arguments, quiet, loud)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second of the quiet tenant")
    parser.add_argument("--times", type=float, default=10.0, help="how many times as many the loud one sends")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=6)
    uvloop.run(measure(parser.parse_args(words)))


if __name__ == "__main__":
    main(sys.argv[1:])
