"""Releases at length: 32 tenants call openlab/digits while it is released and rolled back, and Triton is killed.

    .venv/bin/python -m tests.soak.releases [--rounds 3]

In each round, version 2 is the canary of half the tenants, promoted, rolled back, released, Triton is killed with
SIGKILL while it is live, and it is rolled back: by mutations, and by the product's own worker. Prints when the last
answer by the version before was heard after each. Exits with 1 when a call failed while Triton was there, when the
ledger has another version than the one that answered, or when Triton came back with other models than it had.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from time import monotonic

import numpy as np
import psycopg
import uvloop

from graphql_api.nodes import global_id
from tests.doors.load import REF, Doors, Load, calling, doors_of

from .product import Product

CALLERS = 32
CUSTOMERS = f"""
import json
from marketplace.catalog.models import MLModel
from tests import factories
plan = factories.plan(
    MLModel.objects.by_ref({REF!r}).get(), included_units=10**9, requests_per_second=10**4, burst=10**4
)
tenants = [factories.tenant() for _ in range({CALLERS})]
for tenant in tenants:
    factories.subscription(tenant, plan)
print(json.dumps([factories.api_key(tenant) for tenant in tenants]))
"""
LOADED = "SELECT endpoint, name FROM inference_deployment WHERE status = 'READY' ORDER BY 1, 2"
STANDING = """
SELECT l.number, c.number FROM catalog_mlmodel m JOIN catalog_modelversion l ON l.id = m.live_version_id
  LEFT JOIN catalog_modelversion c ON c.id = m.canary_version_id
"""
# As the answers' keys' tenants had it, each in the order of its calls.
RECORDED = """
SELECT array_agg(v.number ORDER BY h.id) FROM metering_hold h JOIN catalog_modelversion v ON v.id = h.version_id
  JOIN tenants_apikey k ON k.id = h.api_key_id WHERE h.state = 'settled' AND starts_with(%s, k.prefix)
"""


class Rounds:
    def __init__(self, product: Product, doors: Doors, load: Load) -> None:
        self._product = product
        self._doors = doors
        self._load = load
        self.owner = json.loads((product.data_dir / "demo.json").read_text())["apiKeys"]["openlab"]
        ((version_id,),) = self._rows("SELECT id FROM catalog_modelversion WHERE number = 2")
        self._second = global_id("ModelVersion", version_id)

    async def round(self) -> None:
        await self._change("canary for half", "setCanary", (1, 2), model=REF, modelVersion=self._second, percent=50)
        await self._change("promoted", "promoteCanary", (2, None), model=REF)
        await self._change("rolled back", "rollbackModel", (1, None), model=REF)
        await self._change("released", "releaseModelVersion", (2, None), modelVersion=self._second)
        await self._kill_triton()
        await self._change("rolled back", "rollbackModel", (1, None), model=REF)

    async def _change(self, what: str, mutation: str, to: tuple[int, int | None], **input: object) -> None:
        async def until_it_holds() -> None:
            await self._doors.mutate(self.owner, mutation, **input)
            while self._rows(STANDING) != [to]:  # noqa: ASYNC110  (another process changes it)
                await asyncio.sleep(0.02)

        began = monotonic()
        await self._load.change(until_it_holds())
        everything = [answer for caller in self._load.callers for answer in caller.answers]
        late = [answer.at - began for answer in everything if answer.number != to[0] and answer.at > began]
        last = f"; last answer by another {max(late, default=0):.3f} s after it was asked for" if to[1] is None else ""
        print(f"{what:>16}: seen by all{last}; {len(everything)} answers", flush=True)

    async def _kill_triton(self) -> None:
        before = self._rows(LOADED)
        self._load.away = True
        began = monotonic()
        await self._product.kill("triton")

        async def back() -> None:
            await self._product.answers()
            # It is noticed first, and then mended.
            while self._rows(LOADED) != before or not await self._answers():  # noqa: ASYNC110  (as above)
                await asyncio.sleep(0.1)

        await self._load.change(back())
        self._load.away = False
        print(
            f"{'Triton killed':>16}: back with the same {len(before)} models after {monotonic() - began:.1f} s",
            flush=True,
        )

    async def _answers(self) -> bool:
        try:
            for number in (1, 2):
                await self._doors.rest(self.owner, number)
        except Exception:  # whatever it is, it does not answer yet
            return False
        return True

    def _rows(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self._product.database) as db:
            return db.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]


async def soak(data_dir: Path, rounds: int) -> list[str]:
    """What is wrong."""
    async with Product(data_dir, REF) as product:
        keys = json.loads((await asyncio.to_thread(product.manage, "shell", "-v0", "-c", CUSTOMERS)).splitlines()[-1])
        host, port = product.address
        async with (
            doors_of(f"http://{host}:{port}", product.grpc_address, CALLERS + 2) as doors,
            calling(keys, doors) as load,
        ):
            work = Rounds(product, doors, load)
            scores = {number: np.array((await doors.rest(work.owner, number))[1]) for number in (1, 2)}
            for _ in range(rounds):
                await work.round()
        apart = np.abs(scores[1] - scores[2]).max()
        wrong = [failure for caller in load.callers for failure in caller.failures]
        with psycopg.connect(product.database) as db:
            for caller in load.callers:
                (written,) = db.execute(RECORDED, [caller.key]).fetchone() or (None,)
                if [answer.number for answer in caller.answers] != written:
                    wrong.append(f"{caller.ask}: the ledger has other versions than answered")
                wrong += [
                    f"{caller.ask}: these are not the scores of version {answer.number}"
                    for answer in caller.answers
                    if np.abs(answer.scores - scores[answer.number]).max() >= apart / 10
                ]
        counts = {
            "answers": sum(len(caller.answers) for caller in load.callers),
            "refused while Triton was away": sum(caller.refusals for caller in load.callers),
        }
        print(counts, flush=True)
        print(await asyncio.to_thread(product.manage, "check_ledger"))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.releases", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    data_dir = Path(tempfile.mkdtemp(prefix="soak-"))
    wrong = uvloop.run(soak(data_dir, parser.parse_args().rounds))
    print("\n".join(wrong[:50]) or "nothing is wrong")
    if not wrong:
        shutil.rmtree(data_dir, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
