"""What a gateway costs an embedding: ours beside LiteLLM's proxy and the Portkey gateway.

    .venv/bin/python -m benchmarks.openai [--seconds 3] [--rounds 3] [--callers 1 8 32]

Each is one process, alone with its upstream while it is measured, and asked for the same embedding of 384 numbers in
base64 by wrk (one thread) on the same machine; every answer is checked. What each has behind it:

- LiteLLM and Portkey: a server that answers with prepared bytes. It does less than any model server would, which leaves
  these two the more of the machine.
- Ours: Triton, with a model whose numbers are constant, and PostgreSQL, with all promises on. Its figures include the
  admission and the charge of every call; the other two keep no accounts at all.

A gateway's ratio is its rate to that of its own upstream, asked directly. The two upstreams differ, and the faster one
makes for the lower ratio: so the rates are compared as well, which the difference works on the other way round.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from urllib.request import Request, urlopen

from . import peers, rig
from .rounds import Result, Results, in_turns
from .targets import HttpTarget
from .upstream import BASE64, MODEL

TEXT = "A dog runs through the park."
JSON = {"Content-Type": "application/json"}
PUBLISH = "from benchmarks import models; models.publish()"


def ours(servers: rig.Rig) -> HttpTarget:
    processes = servers.processes("web", "postgres", "triton")
    return _embedding("ours", servers.port, {"Authorization": f"Bearer {servers.keys['acme']}"}, processes)


async def triton(servers: rig.Rig) -> HttpTarget:
    """Its answer in JSON, as our own upstream is asked in the other benchmarks."""
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    return HttpTarget(
        name="triton",
        port=servers.triton_port,
        path=f"/v2/models/{await servers.triton_name(MODEL)}/infer",
        body=json.dumps({"inputs": [text]}).encode(),
        headers=JSON,
        answer="0.25,0.25",
        processes=servers.processes("triton"),
    )


def _embedding(name: str, port: int, headers: dict[str, str], processes: dict[str, int]) -> HttpTarget:
    body = {"model": MODEL, "input": TEXT, "encoding_format": "base64"}
    return HttpTarget(
        name=name,
        port=port,
        path="/v1/embeddings",
        body=json.dumps(body).encode(),
        headers={**JSON, **headers},
        answer=BASE64,
        processes=processes,
    )


async def compare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="marketplace-bench-") as folder:
        async with rig.started() as servers:
            await asyncio.to_thread(rig.manage, servers.environment, "shell", "-v0", "-c", PUBLISH)
            await asyncio.to_thread(rig.manage, servers.environment, "reconcile")
            async with peers.started(Path(folder)) as others:
                targets = [await triton(servers), ours(servers)]
                targets += [_embedding(each.name, each.port, each.headers, {each.name: each.pid}) for each in others]
                for target in targets:
                    await asyncio.to_thread(_wake, target)
                results = await in_turns(targets, arguments.callers, rounds=arguments.rounds, seconds=arguments.seconds)
                print(table(results, arguments.callers))


def _wake(target: HttpTarget) -> None:
    """LiteLLM imports much of itself with the first call."""
    url = f"http://{rig.HOST}:{target.port}{target.path}"
    with urlopen(Request(url, target.body, target.headers), timeout=60) as answer:
        answer.read()


def table(results: Results, callers: Sequence[int]) -> str:
    """In Markdown. `against`: our ratio to the gateway's, and our rate to its."""
    lines = [
        "| callers | gateway | req/s | p50 ms | p99 ms | its CPU ms | upstream req/s | ratio | against: ratio | rate |",
        "|--:|---|" + "--:|" * 8,
    ]
    for number in callers:
        own, own_upstream = results["ours", number], results["triton", number]
        upstream = results["upstream", number]
        for name, gateway, behind, process in (
            ("ours", own, own_upstream, "web"),
            ("LiteLLM", results["litellm", number], upstream, "litellm"),
            ("Portkey", results["portkey", number], upstream, "portkey"),
        ):
            ratio = _ratio(gateway, behind)
            lines.append(
                f"| {number} | {name} | {gateway.rate:.0f} | {median(gateway.p50):.2f} | {median(gateway.p99):.2f} | "
                f"{gateway.cpu_ms(process):.2f} | {behind.rate:.0f} | {ratio:.4f} | "
                f"**{_ratio(own, own_upstream) / ratio:.1f}** | {own.rate / gateway.rate:.1f} |"
            )
    return "\n".join(lines)


def _ratio(gateway: Result, upstream: Result) -> float:
    return median(mine / theirs for mine, theirs in zip(gateway.rates, upstream.rates, strict=True))


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openai", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    arguments = parser.parse_args(words)
    if shutil.which("wrk") is None:
        sys.exit("This needs wrk: as root on Debian, apt-get install wrk.")
    if not peers.PORTKEY.exists():
        sys.exit("This needs the gateways to compare with: make .venv-bench")
    asyncio.run(compare(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
