"""What the marketplace costs on top of Triton: each door beside the same call to raw Triton, in turns.

    .venv/bin/python -m benchmarks.invoke [--seconds 3] [--rounds 3] [--callers 1 8 32 64] [--profile FILE]

Starts servers of its own in a temporary folder, PostgreSQL with all promises on (fsync, synchronous_commit), one web
process and one load generator, which shares the machine with them. Every answer is checked. Figures are medians of the
rounds; CPU is of each server's whole process tree. With --profile the web process runs under cProfile, which makes it
slower, and what it found is written to FILE.
"""

import argparse
import asyncio
import json
import shutil
import struct
import sys
from collections.abc import Sequence

from grpc.aio import insecure_channel

from inference.oip import ModelInferRequest, ModelInferResponse

from . import rig
from .rounds import Target, in_turns, table
from .targets import GrpcTarget, HttpTarget

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
JSON = {"Content-Type": "application/json"}
# What is paid for besides Triton's own work.
OURS = ("web", "postgres", "triton")


async def graphql(servers: rig.Rig) -> tuple[Target, Target]:
    """Raw Triton (HTTP with JSON) and `invokeModel`."""
    name = await servers.triton_name(MODEL)
    raw = HttpTarget(
        name="Triton HTTP",
        port=servers.triton_port,
        path=f"/v2/models/{name}/infer",
        body=json.dumps({"inputs": INPUTS}).encode(),
        headers=JSON,
        answer=ANSWER,
        processes=servers.processes("triton"),
    )
    ours = HttpTarget(
        name="invokeModel",
        port=servers.port,
        path="/graphql",
        body=json.dumps({"query": DOCUMENT, "variables": {"input": {"model": MODEL, "inputs": INPUTS}}}).encode(),
        headers={**JSON, "Authorization": f"Bearer {servers.keys['acme']}"},
        answer=ANSWER,
        processes=servers.processes(*OURS),
    )
    return raw, ours


async def rest(servers: rig.Rig) -> tuple[Target, Target]:
    """`infer` at raw Triton and at ours: the same JSON to both."""
    raw, _graphql = await graphql(servers)
    ours = HttpTarget(
        name="REST v2",
        port=servers.port,
        path=f"/v2/models/{MODEL}/infer",
        body=raw.body,
        headers={**JSON, "Authorization": f"Bearer {servers.keys['acme']}"},
        answer=ANSWER,
        processes=servers.processes(*OURS),
    )
    return raw, ours


async def grpc(servers: rig.Rig) -> tuple[Target, Target]:
    """`ModelInfer` at raw Triton and at ours, with raw bytes in and out."""

    async def target(name: str, port: int, model: str, processes: Sequence[str], **metadata: str) -> GrpcTarget:
        message = ModelInferRequest(model_name=model)
        for tensor in INPUTS:
            message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            message.raw_input_contents.append(struct.pack("<f", *tensor["data"]))
        method, content = "inference.GRPCInferenceService/ModelInfer", message.SerializeToString()
        async with insecure_channel(f"{rig.HOST}:{port}") as channel:
            answer = await channel.unary_unary(f"/{method}")(content, metadata=tuple(metadata.items()))
        if list(ModelInferResponse.FromString(answer).raw_output_contents) != [struct.pack("<f", 3.75)]:
            raise RuntimeError(f"{name} answered {answer!r}")
        return GrpcTarget(name, port, method, content, answer, metadata, servers.processes(*processes))

    name, key = await servers.triton_name(MODEL), servers.keys["acme"]
    raw = await target("Triton gRPC", servers.triton_grpc_port, name, ["triton"])
    return raw, await target("ModelInfer", servers.grpc_port, MODEL, OURS, authorization=f"Bearer {key}")


DOORS = {"graphql": graphql, "rest": rest, "grpc": grpc}


async def compare(arguments: argparse.Namespace) -> None:
    async with rig.started(profile=arguments.profile) as servers:
        pairs = [await DOORS[door](servers) for door in arguments.doors]
        # What two doors are compared with is sent to once.
        targets = list({target.name: target for pair in pairs for target in pair}.values())
        results = await in_turns(targets, arguments.callers, rounds=arguments.rounds, seconds=arguments.seconds)
        for raw, ours in pairs:
            print(table(results, arguments.callers, raw, ours), end="\n\n")
        print(f"memory of the web process: {rig.memory_mib(servers.pids['web']):.0f} MiB")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoke", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS))
    arguments = parser.parse_args(words)
    for program, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
        if shutil.which(program) is None:
            sys.exit(f"This needs {program}: as root on Debian, apt-get install {package}.")
    asyncio.run(compare(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
