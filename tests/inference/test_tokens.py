"""Plans by token: charged is what the model counted, whether or not the caller asked to see it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from pytest_django.fixtures import Settings

from inference.deployment import reconciler
from inference.invocation import Invocation, invoke
from inference.tensors import RawTensor, Signature
from marketplace.access import TenantRole
from marketplace.catalog.models import ModelVersion
from marketplace.errors import InferenceFailed
from marketplace.metering.models import Hold, Quota
from marketplace.objects.folder import Folder
from tests import factories
from tests.inference.ensembles import COUNTED, TEXT, pipeline, words

pytestmark = pytest.mark.django_db(transaction=True)


class Shop:
    """openlab/words turns text into numbers; acme is on its plan of 20 tokens, at most 10 a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = factories.model(factories.tenant("openlab", is_publisher=True), "words")
        consumer = factories.tenant("acme")
        plan = factories.plan(self.model, unit="TOKEN", max_tokens_per_call=10, included_units=20)
        factories.subscription(consumer, plan)
        self.developer = factories.principal(consumer, TenantRole.DEVELOPER)

    def publish(self, signature: Signature) -> None:
        file = self.folder / "words.zip"
        file.write_bytes(pipeline(words("the", "cat", "sat"), signature))
        sha256, size = Folder(self.folder).put(file)
        version = factories.version(self.model, sha256=sha256, size_bytes=size, format="ensemble")
        version.tensors.all().delete()
        for direction, specs in (("INPUT", signature.inputs), ("OUTPUT", signature.outputs)):
            for position, spec in enumerate(specs):
                shape, datatype = list(spec.shape), spec.datatype.value
                factories.tensor(version, direction, spec.name, datatype=datatype, shape=shape, position=position)

    async def call(self, *texts: str, **arguments: Any) -> Invocation:
        inputs = [RawTensor(name="text", datatype="BYTES", shape=[len(texts)], data=list(texts))]
        return await invoke(self.developer, ref="openlab/words", inputs=inputs, **arguments)


@pytest_asyncio.fixture
async def shop(settings: Settings, tmp_path: Path, transactional_db: None) -> AsyncIterator[Shop]:
    settings.OBJECTS_DIR = tmp_path
    yield await sync_to_async(Shop)(tmp_path)
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


def names(answer: Invocation) -> list[str]:
    assert answer.outputs is not None
    return sorted(tensor.name for tensor in answer.outputs)


async def test_charged_is_what_the_model_counted(shop: Shop) -> None:
    await sync_to_async(shop.publish)(COUNTED)
    await reconciler.reconcile()

    everything = await shop.call("the cat sat", "the cat")
    some = await shop.call("the cat", outputs=["input_ids"])
    counted = await shop.call("sat", outputs=["token_count"])

    assert (everything.unit, everything.units, some.units, counted.units) == ("TOKEN", 5, 2, 1)
    assert [names(answer) for answer in (everything, some, counted)] == [
        ["input_ids", "token_count"],
        ["input_ids"],
        ["token_count"],
    ]
    assert [(quota.settled, quota.held) async for quota in Quota.objects.all()] == [(8, 0)]


async def test_no_call_is_charged_more_than_was_set_aside_for_it(shop: Shop) -> None:
    await sync_to_async(shop.publish)(COUNTED)
    await reconciler.reconcile()

    assert (await shop.call(" ".join(["cat"] * 11))).units == 10


async def test_a_model_that_does_not_say_how_many_there_were_is_not_paid_for(shop: Shop) -> None:
    await sync_to_async(shop.publish)(TEXT)
    await reconciler.reconcile()

    with pytest.raises(InferenceFailed, match="by token"):
        await shop.call("the cat")

    assert [(hold.state, hold.charged) async for hold in Hold.objects.all()] == [("released", 0)]
    assert (await Quota.objects.aget()).held == 0
