"""Kills, each at its moment, while callers call; and what is left of their calls afterwards."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import psycopg

from .callers import Callers, Journal
from .comparison import UNFINISHED, Verdict, compare
from .outages import KINDS, Outage, outage
from .product import BEFORE_ACKNOWLEDGEMENT, MOMENTS, SERVICES, Product

WITH_KEYS, WITHOUT = 6, 2
# Between two kills, so that the second meets calls that had nothing to do with the first.
ANSWERS_BETWEEN_KILLS = 12
LONGEST_WAIT_SECONDS = 120

# Service, moment.
Kill = tuple[str, str]
EACH_ONCE: tuple[Kill, ...] = tuple((service, moment) for moment in MOMENTS for service in SERVICES)


@dataclass
class Report:
    kills: dict[Kill, int]
    verdict: Verdict
    ledger: str
    outages: dict[str, Outage]


async def crash(data_dir: Path, kills: Iterable[Kill], say: Callable[[str], None]) -> Report:
    """Starts everything in `data_dir`, kills as told while callers call, lets all of it heal, and compares."""
    done = dict.fromkeys(EACH_ONCE, 0)
    with closing(Journal(data_dir / "journal")) as journal:
        async with Product(data_dir) as product:
            say("everything runs")
            callers = Callers(product.address, product.key, journal)
            async with callers.calling(with_keys=WITH_KEYS, without=WITHOUT):
                await within(callers.hear(ANSWERS_BETWEEN_KILLS))
                for service, moment in kills:
                    await within(_kill(product, callers, service, moment))
                    done[service, moment] += 1
                    say(f"{service} killed {moment}, and calls are answered; {callers.counts['answered']} so far")
            say("nothing is killed any more, and every call with a key has its answer")
            await within(product.answers())
            outages = {kind: await outage(product, callers, kind) for kind in KINDS}
            await within(callers.ask_all_again())
            await callers.hang_up()
            await within(_all_finished(product.database))
            verdict = await asyncio.to_thread(compare, journal, product.database)
            verdict.counts += callers.counts
            try:
                ledger = await asyncio.to_thread(product.manage, "check_ledger")
            except CalledProcessError as error:
                ledger = error.stdout
                verdict.wrong.append("check_ledger found something")
    return Report(done, verdict, ledger, outages)


async def _kill(product: Product, callers: Callers, service: str, moment: str) -> None:
    stop = product.stop_at(moment)
    await stop.reached.wait()
    callers.latest_kill = f"{service} {moment}"
    await product.kill(service)
    # Whose door it is has nobody behind it any more, and an acknowledgement is lost whoever has died.
    if service == "web" or moment == BEFORE_ACKNOWLEDGEMENT:
        stop.cut()
    else:
        stop.pass_on()
    await callers.hear(ANSWERS_BETWEEN_KILLS)


async def _all_finished(database: str) -> None:
    """The worker gives back what died with its process; it is waited for as long as a person would."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as db:
        while True:
            row = await (await db.execute(UNFINISHED)).fetchone()
            if row == (0,):
                return
            await asyncio.sleep(0.2)


async def within(work: Coroutine[Any, Any, None]) -> None:
    """Something that never comes is a failure, not a wait without end."""
    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        await work
