"""How soon a caller hears that PostgreSQL is away, and how soon it is answered once PostgreSQL is back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from .callers import Callers
from .product import Product, descendants

CALLERS = 4
# Longer than any patience in the product.
SECONDS = 4.0


@dataclass
class Outage:
    """Seconds: to each refusal (or end of the connection), of calls under way when it began and of later ones; and from
    PostgreSQL's return to the first answer."""

    refusals: list[float] = field(default_factory=list)
    recovery: float = 0.0


@asynccontextmanager
async def killed(product: Product) -> AsyncIterator[None]:
    """SIGKILL to the postmaster and its children; it is back once it says that it is ready."""
    await product.kill("postgres")
    yield
    await product.answers()


@asynccontextmanager
async def stopped(product: Product) -> AsyncIterator[None]:
    """SIGSTOP to the postmaster and its children: connections stay open, nothing answers, new ones are accepted."""
    pid = product.children["postgres"].pid
    assert pid is not None
    family = (pid, *descendants(pid))
    for member in family:
        os.kill(member, signal.SIGSTOP)
    yield
    await asyncio.sleep(SECONDS)
    for member in family:
        os.kill(member, signal.SIGCONT)


@asynccontextmanager
async def unheard(product: Product) -> AsyncIterator[None]:
    """It hears everything, and no answer arrives."""
    proxy = product.proxies["postgres"]
    proxy.pause()
    yield
    await asyncio.sleep(SECONDS)
    proxy.resume()


KINDS: dict[str, Callable[[Product], AbstractAsyncContextManager[None]]] = {
    "killed": killed,
    "stopped": stopped,
    "unheard": unheard,
}


async def outage(product: Product, callers: Callers, kind: str) -> Outage:
    """Calls without a pause while PostgreSQL is away, and on until one is answered."""
    measured = Outage()
    began = back = float("inf")
    answered = asyncio.Event()

    async def call() -> None:
        while not answered.is_set():
            started = monotonic()
            if await callers.once():
                if monotonic() > back:
                    answered.set()
            elif monotonic() > began:
                measured.refusals.append(monotonic() - max(started, began))

    callers.latest_kill = f"postgres {kind}"
    everybody = [asyncio.create_task(call()) for _ in range(CALLERS)]
    async with KINDS[kind](product):
        began = monotonic()
    back = monotonic()
    await answered.wait()
    measured.recovery = monotonic() - back
    await asyncio.gather(*everybody)
    return measured
