"""stream(): the model's answers as they come. However it ends, charged is what the caller has taken, and no more."""

import asyncio
import gc
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from pytest_django import Settings

from inference import dispatch, gateway, generation, reconciliation
from inference.invocation import Chunk, Invocation, invoke, stream
from inference.models import Deployment, UsageReconciliation
from inference.tensors import RawTensor
from marketplace.access import TenantRole
from marketplace.draining import interrupted
from marketplace.errors import (
    DeadlineExceeded,
    IdempotencyConflict,
    InferenceFailed,
    ModelUnavailable,
    QuotaExceeded,
)
from marketplace.metering import connections, heartbeats, ledger
from marketplace.metering.admission import release
from marketplace.metering.models import Hold, LedgerEntry, Quota
from tests import factories
from tests.inference import counting

pytestmark = pytest.mark.django_db(transaction=True)

Events = AsyncGenerator[Chunk | Invocation]


class Shop:
    """openlab/count, loaded; acme is on its plan by token: 20 in all, 10 a call at most."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = factories.model(factories.tenant("openlab", is_publisher=True), "count")
        self.version = factories.version(self.model, decoupled=True)
        self.version.tensors.all().delete()
        for direction, tensors in (("INPUT", counting.INPUTS), ("OUTPUT", counting.OUTPUTS)):
            for position, (name, datatype) in enumerate(tensors.items()):
                factories.tensor(self.version, direction, name, datatype=datatype, shape=[1], position=position)
        self.consumer = factories.tenant("acme")
        plan = factories.plan(self.model, unit="TOKEN", max_tokens_per_call=10, included_units=20)
        factories.subscription(self.consumer, plan)
        self.developer = factories.principal(self.consumer, TenantRole.DEVELOPER)

    def by_call(self) -> None:
        """The same on a plan by call."""
        self.consumer = factories.tenant("globex")
        factories.subscription(self.consumer, factories.plan(self.model, included_units=5))
        self.developer = factories.principal(self.consumer, TenantRole.DEVELOPER)

    def _call(self, times: int, parameters: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        asked = {"journal": str(self.journal), "gate": str(self.gate), **parameters}
        inputs = [RawTensor("times", "INT64", [1], data=[times])]
        return {"ref": "openlab/count", "inputs": inputs, "parameters": asked} | arguments

    def stream(self, times: int, arguments: dict[str, Any] | None = None, **parameters: Any) -> Events:
        return stream(self.developer, **self._call(times, parameters, arguments or {}))

    async def invoke(self, times: int, arguments: dict[str, Any] | None = None, **parameters: Any) -> Invocation:
        return await invoke(self.developer, **self._call(times, parameters, arguments or {}))

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    async def ended(self) -> dict[str, Any]:
        """What the model says of the call, as soon as it has ended."""
        while not self.journal.exists():  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.01)
        said: dict[str, Any] = json.loads(self.journal.read_text())
        return said


@pytest_asyncio.fixture
async def shop(settings: Settings, tmp_path: Path, transactional_db: None) -> AsyncIterator[Shop]:
    settings.OBJECTS_DIR = tmp_path
    made = await sync_to_async(Shop)(tmp_path)
    (endpoint,) = settings.TRITON_URLS
    await counting.load(endpoint, made.version.triton_name)
    await Deployment.objects.acreate(version=made.version, endpoint=endpoint, status="READY")
    yield made
    await gateway.unload(endpoint, made.version.triton_name)


def number(event: Chunk | Invocation) -> int:
    assert isinstance(event, Chunk)
    (value,) = (tensor.data() for tensor in event.outputs if tensor.name == "number")
    return int(value[0])


async def read(events: Events, numbers: list[int]) -> None:
    async for event in events:
        numbers.append(number(event))  # noqa: PERF401  (it is to have those that came before a failure)


async def charged() -> tuple[Decimal, Decimal, Decimal, int]:
    """Settled and held units of the one quota, units in the publisher's entries, and calls that still run."""
    quota = await Quota.objects.aget()
    entries = [entry.units async for entry in LedgerEntry.objects.filter(account="publisher")]
    return quota.settled, quota.held, sum(entries, Decimal(0)), quota.running


async def test_answers_come_one_by_one_and_the_settled_call_last(shop: Shop) -> None:
    events = [event async for event in shop.stream(3)]

    assert [number(event) for event in events[:-1]] == [0, 1, 2]
    done = events[-1]
    assert isinstance(done, Invocation)
    assert (done.outputs, done.unit, done.units) == (None, "TOKEN", 4)
    assert await charged() == (4, 0, 4, 0)
    hold = await Hold.objects.aget()
    assert (hold.pk, hold.state, hold.answer_digest is not None) == (done.id, "settled", True)


async def test_an_answer_is_here_before_the_next_one_is_made(shop: Shop) -> None:
    async with aclosing(shop.stream(2, gate_at=1)) as events:
        assert number(await anext(events)) == 0
        assert (await Quota.objects.aget()).held == 10

        shop.gate.touch()

        assert number(await anext(events)) == 1


async def test_what_was_asked_for_is_all_that_comes_and_tokens_are_counted_all_the_same(shop: Shop) -> None:
    events = [event async for event in shop.stream(2, {"outputs": ["number"]})]

    assert [[tensor.name for tensor in event.outputs or ()] for event in events] == [["number"], ["number"], []]
    assert (await charged())[0] == 3


async def test_no_more_tokens_come_than_are_set_aside(shop: Shop) -> None:
    longest = [event async for event in shop.stream(100)]
    another = [event async for event in shop.stream(5)]
    rest = [event async for event in shop.stream(100)]

    assert [len(events) - 1 for events in (longest, another, rest)] == [9, 5, 3]
    assert await charged() == (20, 0, 20, 0)
    with pytest.raises(QuotaExceeded):
        await anext(shop.stream(1))


async def test_without_streaming_there_is_one_answer(shop: Shop) -> None:
    answer = await shop.invoke(3)

    assert answer.outputs is not None
    assert answer.outputs[0].data() == [3]
    assert (answer.units, (await charged())[0]) == (4, 4)


async def test_a_model_that_is_not_decoupled_streams_its_one_answer(shop: Shop, settings: Settings) -> None:
    model = await sync_to_async(factories.model)(shop.model.publisher, "whole")
    version = await sync_to_async(factories.version)(model)
    await sync_to_async(factories.subscription)(shop.consumer, await sync_to_async(factories.plan)(model))
    config = {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": name, "data_type": "TYPE_FP32", "dims": [-1]} for name in ("A", "B")],
        "output": [{"name": "SUM", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
    source = b"""
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.add(*(tensor.as_numpy() for tensor in request.inputs())) for request in requests]

    def add(self, a, b):
        return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", a + b)])
"""
    (endpoint,) = settings.TRITON_URLS
    await gateway.load(endpoint, version.triton_name, config, {"1/model.py": source})
    await Deployment.objects.acreate(version=version, endpoint=endpoint, status="READY")

    inputs = [RawTensor(name, "FP32", [1], data=[1.5]) for name in ("A", "B")]
    events = [event async for event in stream(shop.developer, ref="openlab/whole", inputs=inputs)]

    await gateway.unload(endpoint, version.triton_name)
    assert [tensor.data() for tensor in events[0].outputs or ()] == [[3.0]]
    assert isinstance(events[1], Invocation)
    assert (len(events), events[1].units) == (2, 1)


async def test_who_leaves_stops_the_model_and_pays_for_what_was_taken(shop: Shop) -> None:
    async with aclosing(shop.stream(9, gate_at=5)) as events:
        assert [number(await anext(events)) for _ in range(3)] == [0, 1, 2]

    # Told so at once, or at the gate.
    assert (await shop.ended())["cancelled"]
    # The third was handed over, and nobody came back to say that it had arrived.
    assert await charged() == (3, 0, 3, 0)
    assert (await Hold.objects.aget()).state == "settled"


async def test_a_stream_that_was_left_is_nothing_that_triton_delivered_without_us(shop: Shop) -> None:
    await sync_to_async(reconciliation.reconcile)()
    for _ in range(3):
        async with aclosing(shop.stream(9, gate_at=5)) as events:
            await anext(events)
    await generation.ended()

    # One that lasts is found twice.
    for _ in range(2):
        await sync_to_async(reconciliation.reconcile)()

    usage = await UsageReconciliation.objects.aget()
    assert (usage.delivered, usage.undelivered, usage.drift) == (6, 3, 0)


async def test_who_is_cancelled_while_waiting_pays_for_what_was_taken(shop: Shop) -> None:
    here: asyncio.Queue[int] = asyncio.Queue()

    async def read() -> None:
        async with aclosing(shop.stream(9, gate_at=3)) as events:
            async for event in events:
                here.put_nowait(number(event))

    reader = asyncio.create_task(read())
    assert [await here.get() for _ in range(3)] == [0, 1, 2]
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert await shop.ended() == {"given": 3, "cancelled": True}
    assert await charged() == (4, 0, 4, 0)


async def test_who_leaves_before_anything_came_pays_nothing(shop: Shop) -> None:
    reader = asyncio.create_task(anext(shop.stream(9, gate_at=0)))
    while not await Hold.objects.aexists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert await charged() == (0, 0, 0, 0)
    assert (await Hold.objects.aget()).released_because == "CANCELLED"


async def test_a_model_that_fails_on_the_way_is_paid_by_token_for_what_was_taken(shop: Shop) -> None:
    numbers: list[int] = []

    with pytest.raises(InferenceFailed, match="counting is hard"):
        await read(shop.stream(9, fail_at=2), numbers)

    assert numbers == [0, 1]
    assert await charged() == (3, 0, 3, 0)


async def test_by_call_a_stream_that_fails_costs_nothing_and_one_that_is_left_costs_a_call(shop: Shop) -> None:
    await sync_to_async(shop.by_call)()

    with pytest.raises(InferenceFailed):
        async for _event in shop.stream(9, fail_at=2):
            pass
    assert await charged() == (0, 0, 0, 0)

    async with aclosing(shop.stream(9, gate_at=5)) as events:
        for _ in range(2):
            await anext(events)
    assert await charged() == (1, 0, 1, 0)


async def test_the_deadline_ends_a_stream(shop: Shop, settings: Settings) -> None:
    settings.GENERATION_TIMEOUT_SECONDS = 1.0
    numbers: list[int] = []

    with pytest.raises(DeadlineExceeded):
        await read(shop.stream(9, gate_at=2), numbers)

    assert numbers == [0, 1]
    assert (await shop.ended())["cancelled"]
    assert await charged() == (3, 0, 3, 0)


async def test_a_callers_own_deadline_is_kept_when_it_is_sooner(shop: Shop) -> None:
    with pytest.raises(DeadlineExceeded):
        async for _event in shop.stream(9, {"timeout": 0.5}, gate_at=0):
            pass

    assert await charged() == (0, 0, 0, 0)


async def test_a_stream_whose_units_were_given_back_ends(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    numbers = []

    with pytest.raises(ModelUnavailable, match="lost the units"):
        async for event in shop.stream(9, gate_at=2):
            numbers.append(number(event))
            if len(numbers) == 2:
                await release((await Hold.objects.aget()).pk, because="EXPIRED")

    assert numbers == [0, 1]
    assert (await shop.ended())["cancelled"]
    assert await charged() == (0, 0, 0, 0)


async def test_a_server_that_ends_says_so_and_charges_what_was_taken(shop: Shop) -> None:
    numbers = []

    with pytest.raises(ModelUnavailable, match="restarted"):
        async for event in shop.stream(9, gate_at=2):
            numbers.append(number(event))
            if len(numbers) == 2:
                asyncio.get_running_loop().call_later(0.05, heartbeats.end_all, interrupted())

    assert (await shop.ended())["cancelled"]
    assert await charged() == (3, 0, 3, 0)


async def test_the_same_idempotency_key_gets_the_same_answers_and_one_charge(shop: Shop) -> None:
    once = {"idempotency_key": "story-1"}

    first = [event async for event in shop.stream(3, once)]
    again = [event async for event in shop.stream(3, once)]

    assert again[:-1] == first[:-1]
    assert (again[-1].id, again[-1].units) == (first[-1].id, first[-1].units)  # type: ignore[union-attr]
    assert await charged() == (4, 0, 4, 0)
    with pytest.raises(IdempotencyConflict):
        await shop.invoke(3, once)


async def test_a_stream_that_was_cut_short_is_not_given_again_as_if_it_were_whole(shop: Shop) -> None:
    once = {"idempotency_key": "story-1"}
    async with aclosing(shop.stream(9, once, gate_at=5)) as events:
        for _ in range(3):
            await anext(events)

    again = [event async for event in shop.stream(9, once, gate_at=5)]

    assert [type(event) for event in again] == [Invocation]
    assert await charged() == (3, 0, 3, 0)


async def test_what_nobody_reads_waits_at_the_server(shop: Shop) -> None:
    """64 MiB of answers, of which the caller takes one: the others stay in Triton, but for a window of them."""
    await sync_to_async(shop.by_call)()
    before = memory_kib()

    async with aclosing(shop.stream(4_000, payload=16 * 1024)) as events:
        await anext(events)
        await shop.ended()

    # gRPC's window grows by what it measures of the connection: 33 MiB were seen on a busy machine.
    assert memory_kib() - before < 48 * 1024


async def test_streams_cut_anywhere_leave_nothing_behind(shop: Shop) -> None:
    """STREAMS of them, 2,000 unless the environment says more, at every stage and each in its own way."""
    plan = await sync_to_async(factories.plan)(
        shop.model, unit="TOKEN", max_tokens_per_call=10, included_units=10**9, burst=10**6, requests_per_second=10**6
    )
    consumer = await sync_to_async(factories.tenant)("initech")
    await sync_to_async(factories.subscription)(consumer, plan)
    shop.developer = factories.principal(consumer, TenantRole.DEVELOPER)

    async def cut(way: int) -> None:
        stage = way % 5
        match way // 5 % 6:
            case 0:  # leaves
                async with aclosing(shop.stream(9)) as events:
                    for _ in range(stage):
                        await anext(events)
            case 1:  # is cancelled while it waits
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05), aclosing(shop.stream(9, gate_at=stage)) as events:
                        await read(events, [])
            case 2:  # runs out of time
                with suppress(DeadlineExceeded):
                    await read(shop.stream(9, {"timeout": 0.05}, gate_at=stage), [])
            case 3:  # the model fails
                with suppress(InferenceFailed):
                    await read(shop.stream(9, fail_at=stage), [])
            case 4:  # is forgotten: only the garbage collector closes it
                events = shop.stream(9)
                for _ in range(stage):
                    await anext(events)
            case _:  # comes to its end
                async for _event in shop.stream(stage):
                    pass

    await cut(5)
    before, files = tasks(), len(os.listdir("/proc/self/fd"))
    at_once = asyncio.Semaphore(30)

    async def one(way: int) -> None:
        async with at_once:
            await cut(way)

    async with asyncio.TaskGroup() as group:
        for way in range(int(os.environ.get("STREAMS", "2000"))):
            group.create_task(one(way))
    gc.collect()  # those that were forgotten
    while left := tasks() - before:
        await asyncio.wait(left)

    assert not heartbeats._heart().under_way()
    assert sum(load.in_flight for load in dispatch.scheduler._loads.values()) == 0
    assert len(os.listdir("/proc/self/fd")) <= files + connections.MAX_CONNECTIONS
    quota = await Quota.objects.aget()
    holds = [hold async for hold in Hold.objects.all()]
    assert {hold.state for hold in holds} == {"settled", "released"}
    assert (quota.held, quota.running, quota.settled) == (0, 0, sum(hold.charged for hold in holds))
    assert (await sync_to_async(ledger.check)()).exact


def tasks() -> set[asyncio.Task[Any]]:
    """All but those of PostgreSQL's pool, which sleep and wait as they like."""
    pools = ("AsyncConnectionPool", "AsyncScheduler", "Event.wait")
    return {task for task in asyncio.all_tasks() if not getattr(task.get_coro(), "__qualname__", "").startswith(pools)}


def memory_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
