"""Targets asked in turns by a load generator that checks every answer, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple, Protocol

from .rig import cpu_seconds


class Sent(NamedTuple):
    """What a load generator saw: calls a second, latencies in milliseconds."""

    calls: int
    rate: float
    p50: float
    p99: float


class Target(Protocol):
    """What is sent where, over and over, and the processes that answer."""

    name: str
    processes: dict[str, int]

    async def send(self, callers: int, seconds: float) -> Sent:
        """By so many at once, each of whom waits for its answer. RuntimeError for an answer that is wrong."""


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


async def measure(target: Target, callers: int, seconds: float, result: Result) -> None:
    before = {name: cpu_seconds(pid) for name, pid in target.processes.items()}
    sent = await target.send(callers, seconds)
    result.rates.append(sent.rate)
    result.p50.append(sent.p50)
    result.p99.append(sent.p99)
    for name, pid in target.processes.items():
        result.cpu.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / sent.calls)


Results = dict[tuple[str, int], Result]


async def in_turns(targets: Sequence[Target], callers: Sequence[int], *, rounds: int, seconds: float) -> Results:
    """By the target's name and the number of callers."""
    results: Results = {}
    for target in targets:  # until everything that is kept after its first use has been used
        await measure(target, 8, 2, Result())
    for _ in range(rounds):
        for number in callers:
            for target in targets:
                await measure(target, number, seconds, results.setdefault((target.name, number), Result()))
    return results


def table(results: Results, callers: Sequence[int], raw: Target, ours: Target) -> str:
    """In Markdown: `raw`, which Triton answers by itself, beside `ours`."""
    lines = [
        f"| callers | {raw.name} req/s | p50 ms | p99 ms | CPU ms | {ours.name} req/s | p50 ms | p99 ms | "
        "CPU ms web | PostgreSQL | Triton | ratio | of each round |",
        "|" + "--:|" * 13,
    ]
    for number in callers:
        theirs, mine = results[raw.name, number], results[ours.name, number]
        each = " ".join(f"{mine.rates[i] / theirs.rates[i]:.3f}" for i in range(len(mine.rates)))
        lines.append(
            f"| {number} | {theirs.rate:.0f} | {median(theirs.p50):.2f} | {median(theirs.p99):.2f} | "
            f"{theirs.cpu_ms('triton'):.2f} | {mine.rate:.0f} | {median(mine.p50):.2f} | {median(mine.p99):.2f} | "
            f"{mine.cpu_ms('web'):.2f} | {mine.cpu_ms('postgres'):.2f} | {mine.cpu_ms('triton'):.2f} | "
            f"**{mine.rate / theirs.rate:.3f}** | {each} |"
        )
    return "\n".join(lines)
