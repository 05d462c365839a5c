"""How much later the first token is through us: a streamed chat beside the same stream from Triton itself, in turns.

    .venv/bin/python -m benchmarks.first_token [--rounds 200]

One caller, alone, on connections that are open already: HTTP/1.1 with server-sent events for us, gRPC for Triton. The
model writes one token in a fraction of a millisecond, so that hardly anything but the way is measured. Timed in this
process is from sending the request to the first text; what is left of the stream is read before the next one begins.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles

from grpc.aio import Channel, insecure_channel

from inference.oip import ModelInferRequest, ModelStreamInferResponse

from . import rig
from .openai import PUBLISH
from .upstream import GENERATOR

MESSAGES = [{"role": "user", "content": "Hello"}]
TOKENS = 8
METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


async def through_us(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> float:
    """Milliseconds."""
    body = json.dumps(
        {"model": f"openlab/{GENERATOR}", "messages": MESSAGES, "stream": True, "temperature": 0, "max_tokens": TOKENS}
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {rig.HOST}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    started = time.perf_counter()
    writer.write(head.encode() + body)
    first = await reader.readuntil(b'"content":"')
    took = (time.perf_counter() - started) * 1000
    rest = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    if not first.startswith(b"HTTP/1.1 200") or b'"finish_reason":"length"' not in rest:
        raise RuntimeError(f"we answered {first!r} {rest!r}")
    return took


async def from_triton(channel: Channel, model: str) -> float:
    """Milliseconds."""
    text = json.dumps(MESSAGES).encode()
    message = ModelInferRequest(model_name=model)
    message.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    message.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
    message.parameters["apply_chat_template"].bool_param = True
    message.parameters["temperature"].double_param = 0
    message.parameters["max_tokens"].int64_param = TOKENS
    open_stream = channel.stream_stream(
        METHOD,
        request_serializer=ModelInferRequest.SerializeToString,
        response_deserializer=ModelStreamInferResponse.FromString,
    )
    took, answers = 0.0, 0
    started = time.perf_counter()
    async for answer in open_stream(iter((message,))):
        took = took or (time.perf_counter() - started) * 1000
        answers += 1
        if answer.error_message:
            raise RuntimeError(f"Triton answered {answer.error_message!r}")
    if answers < 2:
        raise RuntimeError(f"Triton answered {answers} times")
    return took


async def compare(rounds: int) -> None:
    async with rig.started() as servers:
        await asyncio.to_thread(rig.manage, servers.environment, "shell", "-v0", "-c", PUBLISH)
        await asyncio.to_thread(rig.manage, servers.environment, "reconcile")
        model, key = await servers.triton_name(f"openlab/{GENERATOR}"), servers.keys["acme"]
        reader, writer = await asyncio.open_connection(rig.HOST, servers.port)
        async with insecure_channel(f"{rig.HOST}:{servers.triton_grpc_port}") as channel:
            for _ in range(20):
                await from_triton(channel, model)
                await through_us(reader, writer, key)
            direct, ours = [], []
            for _ in range(rounds):
                direct.append(await from_triton(channel, model))
                ours.append(await through_us(reader, writer, key))
        writer.close()
        await writer.wait_closed()
    print("| first token | p50 ms | p90 ms | p99 ms |\n|---|--:|--:|--:|")
    for name, times in (("Triton", direct), ("chat/completions", ours)):
        at = quantiles(times, n=100)
        print(f"| {name} | {at[49]:.2f} | {at[89]:.2f} | {at[98]:.2f} |")
    later = median(mine - theirs for mine, theirs in zip(ours, direct, strict=True))
    print(f"\nlater by {later:.2f} ms at the median, of {rounds} pairs")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_token", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    asyncio.run(compare(parser.parse_args(words).rounds))


if __name__ == "__main__":
    main(sys.argv[1:])
