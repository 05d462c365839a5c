"""A shadow is asked what the live version was asked: nobody waits for it, nobody pays, and it is written down first."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.utils import timezone
from pytest_django import Settings

from inference import dispatch, gateway, reconciliation, shadows
from inference.deployment import reconciler
from inference.invocation import Invocation, invoke, stream
from inference.models import Deployment, ShadowComparison, UsageReconciliation
from inference.tensors import Datatype, InferenceRequest, RawTensor, Tensor
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.errors import ModelUnavailable
from marketplace.metering import connections
from marketplace.metering.models import Hold, LedgerEntry
from marketplace.objects.folder import Folder
from tests import factories
from tests.inference import graphs

pytestmark = pytest.mark.django_db(transaction=True)

INPUTS = [RawTensor(name=name, datatype="FP32", shape=[1], data=[1.5]) for name in "AB"]


class Shop:
    """openlab/add: version 1 is live, `shadow` is asked all that it is asked. acme has subscribed."""

    def __init__(self, objects: Path) -> None:
        self.objects = objects
        openlab, self.acme = factories.tenant("openlab", is_publisher=True), factories.tenant("acme")
        self.model = factories.model(openlab, "add")
        self.live = self.version(graphs.add())
        factories.subscription(self.acme, factories.plan(self.model))
        self.developer = factories.principal(self.acme)

    def version(self, artifact: bytes, **fields: Any) -> ModelVersion:
        file = self.objects / "upload"
        file.write_bytes(artifact)
        sha256, size = Folder(self.objects).put(file)
        return factories.version(self.model, sha256=sha256, size_bytes=size, **fields)

    def put_in_the_shadow(self, artifact: bytes, percent: int = 100) -> ModelVersion:
        shadow = self.version(artifact, status="READY", released_at=None)
        MLModel.objects.filter(pk=self.model.pk).update(shadow_version=shadow, shadow_percent=percent)
        return shadow

    async def call(self, **arguments: Any) -> Invocation:
        return await invoke(self.developer, **{"ref": "openlab/add", "inputs": INPUTS} | arguments)


@pytest_asyncio.fixture
async def deployed(
    settings: Settings, tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """Version 2, on Triton like the other one, is the shadow."""
    settings.OBJECTS_DIR = tmp_path
    monkeypatch.setattr(shadows, "ROUND_SECONDS", 0)
    shop = await sync_to_async(Shop)(tmp_path)
    await sync_to_async(shop.put_in_the_shadow)(graphs.add())
    await reconciler.reconcile()
    yield shop
    await shadows.idle()
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


@pytest_asyncio.fixture
async def shop(settings: Settings, tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Version 2 is the shadow. Version 1 adds, and version 2 is off by the second operand: no Triton is asked."""
    settings.OBJECTS_DIR = tmp_path
    monkeypatch.setattr(shadows, "ROUND_SECONDS", 0)
    shop = await sync_to_async(Shop)(tmp_path)
    shadow = await sync_to_async(shop.put_in_the_shadow)(graphs.add())
    for version in (shop.live, shadow):
        await Deployment.objects.acreate(version=version, endpoint=settings.TRITON_URLS[0], status="READY")

    async def computed(_endpoint: str, name: str, request: InferenceRequest, **_named: Any) -> tuple[Tensor, ...]:
        one, other = (np.frombuffer(tensor.content, "<f4") for tensor in request.inputs)
        total = one + other if name == shop.live.triton_name else one + 2 * other
        return (Tensor("SUM", Datatype.FP32, total.shape, total.tobytes()),)

    monkeypatch.setattr(gateway, "infer", computed)
    return shop


async def compared() -> ShadowComparison:
    await shadows.idle()
    return await ShadowComparison.objects.aget()


def counts(row: ShadowComparison) -> dict[str, int]:
    names = ("asked", "equal", "close", "different", "mismatched", "failed", "dropped")
    return {name: value for name in names if (value := getattr(row, name))}


async def test_it_answers_alike(deployed: Shop) -> None:
    shadow = await ModelVersion.objects.aget(model=deployed.model, number=2)

    answers = [await deployed.call() for _ in range(3)]
    row = await compared()

    assert counts(row) == {"asked": 3, "equal": 3}
    assert (row.shadow_id, row.live_id, row.max_difference) == (shadow.pk, deployed.live.pk, 0.0)
    assert row.shadow_ms > 0
    assert row.live_ms == pytest.approx(sum(answer.latency_ms or 0 for answer in answers))


async def test_or_it_does_not(shop: Shop) -> None:

    answer = await shop.call()
    row = await compared()

    assert answer.outputs is not None
    assert answer.outputs[0].data() == [3.0]
    assert counts(row) == {"asked": 1, "different": 1}
    assert row.max_difference == 1.5


async def test_what_is_found_is_added_up(shop: Shop) -> None:

    for value in (1.0, 5.0, 2.0):
        operand = RawTensor(name="B", datatype="FP32", shape=[1], data=[value])
        await shop.call(inputs=[INPUTS[0], operand])
        row = await compared()

    assert counts(row) == {"asked": 3, "different": 3}
    assert row.max_difference == 5.0


async def test_nobody_pays_for_it(shop: Shop) -> None:

    answer = await shop.call()
    await compared()

    hold = await Hold.objects.aget()
    assert (hold.pk, hold.version_id, hold.charged) == (answer.id, shop.live.pk, 1)
    assert await LedgerEntry.objects.acount() == 2


async def test_nobody_waits_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = await ModelVersion.objects.select_related("model").aget(number=2)
    answered, infer = asyncio.Event(), gateway.infer

    async def after_the_answer(endpoint: str, name: str, *arguments: Any, **named: Any) -> Any:
        if name == shadow.triton_name:
            await answered.wait()
        return await infer(endpoint, name, *arguments, **named)

    monkeypatch.setattr(gateway, "infer", after_the_answer)
    for _ in range(2):
        assert (await shop.call()).outputs
    answered.set()

    assert counts(await compared()) == {"asked": 2, "different": 2}


async def test_it_is_written_down_before_triton_is_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a process that dies here has made no call that reconciliation does not know of."""
    asked, infer = [], dispatch.infer

    async def noted(errand: dispatch.Errand) -> Any:
        if errand.version.pk != shop.live.pk:
            asked.append([row.asked async for row in ShadowComparison.objects.all()])
        return await infer(errand)

    monkeypatch.setattr(dispatch, "infer", noted)
    await shop.call()
    await shadows.idle()

    assert asked == [[1]]


async def test_without_the_records_nothing_is_asked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    write, tries = shadows._write, 0

    async def fails_once(findings: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise connections.out_of_reach()
        await write(findings)

    monkeypatch.setattr(shadows, "_write", fails_once)
    await shop.call()

    assert counts(await compared()) == {"dropped": 1}


async def test_a_failure_is_counted_and_nobody_elses(shop: Shop) -> None:
    """The shadow is loaded nowhere."""
    await Deployment.objects.filter(version__number=2).adelete()

    assert (await shop.call()).outputs

    assert counts(await compared()) == {"asked": 1, "failed": 1}


@pytest.mark.parametrize(("name", "most"), [("MOST_WAITING", 2), ("MOST_BYTES", 2 * 3 * 4)])
async def test_what_is_too_much_is_dropped(shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    """Of a round; three tensors of four bytes a call."""
    monkeypatch.setattr(shadows, name, most)
    monkeypatch.setattr(shadows, "ROUND_SECONDS", 600)

    for _ in range(5):
        await shop.call()
    waiting = shadows._of_this_loop()

    assert len(waiting._waiting) == 2
    assert [findings.dropped for findings in waiting._findings.values()] == [3]
    assert waiting._rounds is not None
    waiting._rounds.cancel()
    waiting._rounds = None


async def test_a_share_is_a_share(shop: Shop) -> None:
    live = shop.live
    live.model.shadow_version_id, live.model.shadow_percent = live.pk, 30
    for number in range(200):
        shadows.mirror(shadows.Answered(UUID(int=number), live, InferenceRequest(()), (), 1.0))
    waiting = shadows._of_this_loop()

    assert len(waiting._waiting) == 2 * 30
    waiting._waiting.clear()


@pytest.mark.parametrize("which", ["no share", "another version", "a replay", "a stream", "a failure"])
async def test_what_is_not_mirrored(shop: Shop, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if which == "no share":
        await MLModel.objects.aupdate(shadow_percent=0)
    if which == "another version":
        await ModelVersion.objects.filter(number=2).aupdate(released_at=timezone.now())
        await shop.call(version=2)
    elif which == "a replay":
        for _ in range(2):
            await shop.call(idempotency_key="once")
    elif which == "a stream":

        async def streamed(*arguments: Any, **named: Any) -> AsyncIterator[tuple[Tensor, ...]]:
            yield await gateway.infer(*arguments, timeout=named["timeout"], request_id=named["request_id"])

        monkeypatch.setattr(gateway, "stream", streamed)
        async for _event in stream(shop.developer, ref="openlab/add", inputs=INPUTS):
            pass
    elif which == "a failure":

        async def away(*_arguments: Any, **_named: Any) -> Any:
            raise ModelUnavailable("away")

        monkeypatch.setattr(gateway, "infer", away)
        with pytest.raises(ModelUnavailable):
            await shop.call()
    else:
        await shop.call()
    await shadows.idle()

    asked = [row.asked async for row in ShadowComparison.objects.all()]
    assert asked == ([1] if which == "a replay" else [])


async def test_reconciliation_tells_its_calls_from_calls_that_nobody_paid_for(deployed: Shop) -> None:
    shadow = await ModelVersion.objects.aget(model=deployed.model, number=2)
    assert await sync_to_async(reconciliation.reconcile)()

    for _ in range(3):
        await deployed.call()
    await compared()
    # Triton counts a call shortly after it has answered it, and nothing tells when it has.
    await asyncio.sleep(0.2)
    assert await sync_to_async(reconciliation.reconcile)()

    row = await UsageReconciliation.objects.aget(version=shadow)
    assert (row.delivered, row.settled, row.shadowed, row.drift) == (3, 0, 3, 0)
