"""What the language model does on Triton, with nothing of ours before it: tokens a second, and time to the first one.

`python -m marketplace.embedded exec -- .venv/bin/python -m benchmarks.generation ARCHIVE`, with the archive that
`make demo-llm` leaves in DATA_DIR. Greedy answers of 128 tokens to conversations of 40; then a prompt of about 1,000.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from inference import gateway
from inference.formats import read_signature
from inference.repository import triton_models
from inference.tensors import Datatype, InferenceRequest, Tensor

MODEL = "generation-benchmark"
PATIENCE = 300.0
ANSWER_TOKENS = 128
CALLERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Answer:
    """Seconds to the first delta and to the end; tokens of the answer and of its prompt."""

    first: float
    whole: float
    drawn: int
    prompt: int


async def ask(address: str, prompt: str, **parameters: bool | int | float) -> Answer:
    content = prompt.encode()
    text = Tensor("text_input", Datatype.BYTES, (1,), len(content).to_bytes(4, "little") + content)
    request = InferenceRequest((text,), parameters={"temperature": 0, **parameters})
    start, first, tokens, prompt_tokens = time.perf_counter(), None, 0, 0
    async for response in gateway.stream(address, MODEL, request, timeout=PATIENCE):
        first = first or time.perf_counter() - start
        counts = {tensor.name: int.from_bytes(tensor.content, "little") for tensor in response}
        tokens, prompt_tokens = tokens + counts["token_count"], counts["prompt_token_count"]
    return Answer(first or 0, time.perf_counter() - start, tokens - prompt_tokens, prompt_tokens)


def conversation(number: int) -> str:
    return json.dumps([{"role": "user", "content": f"Tell me a long story about the number {number}."}])


async def together(address: str, callers: int) -> tuple[float, float]:
    """Tokens a second of all, and the median of the seconds to the first."""
    start = time.perf_counter()
    asked = {"apply_chat_template": True, "max_tokens": ANSWER_TOKENS}
    answers = await asyncio.gather(*(ask(address, conversation(number), **asked) for number in range(callers)))
    seconds = time.perf_counter() - start
    return sum(each.drawn for each in answers) / seconds, statistics.median(each.first for each in answers)


async def main(artifact: bytes, rounds: int) -> None:
    address = os.environ["TRITON_URLS"].partition(",")[0]
    (model,) = triton_models(MODEL, "ensemble", artifact, read_signature(artifact, "ensemble"))
    await gateway.load(address, model.name, model.config, model.files)
    await together(address, max(CALLERS))
    print(f"{rounds} rounds, median (lowest to highest); load average {os.getloadavg()[0]:.1f}")
    measured: dict[int, list[tuple[float, float]]] = {callers: [] for callers in CALLERS}
    for _ in range(rounds):
        for callers in CALLERS:
            measured[callers].append(await together(address, callers))
    for callers, found in measured.items():
        rates, firsts = (sorted(each) for each in zip(*found, strict=True))
        print(
            f"{callers} callers: {statistics.median(rates):.0f} tokens/s ({rates[0]:.0f} to {rates[-1]:.0f}), "
            f"first after {statistics.median(firsts) * 1e3:.0f} ms ({firsts[0] * 1e3:.0f} to {firsts[-1] * 1e3:.0f})"
        )
    long = [await ask(address, "word " * 1_000, max_tokens=1) for _ in range(rounds)]
    print(
        f"a prompt of {long[0].prompt} tokens: {long[0].prompt / statistics.median(x.first for x in long):.0f} tokens/s"
    )
    await gateway.unload(address, MODEL)
    await gateway.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.archive.read_bytes(), arguments.rounds))
