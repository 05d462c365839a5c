"""From release to live on a real Triton: a version is loaded beside the live one, and rolling back is instant."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings

from inference import gateway
from inference.deployment import reconciler
from marketplace.access import Principal
from marketplace.catalog.models import Direction, MLModel, ModelVersion
from marketplace.objects.folder import Folder
from marketplace.publishing.releases import release, retire, rollback
from marketplace.publishing.versions import Tensor, add_version
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

ADD = Path(__file__).resolve().parents[2] / "demo" / "catalogue" / "add" / "v1.onnx"
SIGNATURE = (
    Tensor(Direction.INPUT, "A", "FP32", [-1]),
    Tensor(Direction.INPUT, "B", "FP32", [-1]),
    Tensor(Direction.OUTPUT, "SUM", "FP32", [-1]),
)


class Lab:
    """openlab and its model `add`, of which each version is the same artefact."""

    def __init__(self, objects: Path) -> None:
        self.owner: Principal = factories.principal(factories.tenant("openlab", is_publisher=True))
        self.model: MLModel = factories.model(factories.Tenant.objects.get(slug="openlab"), "add")
        self.artefact = Folder(objects).put(ADD.read_bytes())

    async def add(self) -> ModelVersion:
        sha256, size = self.artefact
        version: ModelVersion = await sync_to_async(add_version)(
            self.owner, model=self.model, sha256=sha256, size_bytes=size, signature=SIGNATURE
        )
        return version

    async def release(self, version: ModelVersion) -> None:
        await sync_to_async(release)(self.owner, version_id=version.pk)
        await reconciler.reconcile()

    async def live(self) -> int | None:
        version = await ModelVersion.objects.filter(model=self.model, status="LIVE").afirst()
        return version.number if version else None

    async def loaded(self, version: ModelVersion) -> bool:
        ready: bool = await gateway.is_model_ready(settings.TRITON_URLS[0], version.triton_name)
        return ready


@pytest_asyncio.fixture
async def lab(settings: Any, tmp_path: Path) -> AsyncIterator[Lab]:
    settings.OBJECTS_DIR = tmp_path
    yield await sync_to_async(Lab)(tmp_path)
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()
    await gateway.close()


async def test_a_released_version_is_live_once_triton_has_it(lab: Lab) -> None:
    version = await lab.add()
    assert await lab.live() is None
    await lab.release(version)
    assert await lab.loaded(version)
    assert await lab.live() == 1


async def test_rolling_back_needs_no_loading(lab: Lab) -> None:
    first, second = await lab.add(), await lab.add()
    await lab.release(first)
    await lab.release(second)
    assert await lab.live() == 2
    assert await lab.loaded(first)
    await sync_to_async(rollback)(lab.owner, model_ref="openlab/add")
    assert await lab.live() == 1


async def test_a_version_that_cannot_be_loaded_leaves_the_live_one(lab: Lab, settings: Any, tmp_path: Path) -> None:
    first = await lab.add()
    await lab.release(first)
    lab.artefact = Folder(tmp_path).put(b"no model at all")
    await lab.release(await lab.add())
    assert await lab.live() == 1


async def test_a_retired_version_is_unloaded(lab: Lab) -> None:
    version = await lab.add()
    await reconciler.reconcile()
    assert await lab.loaded(version)
    await sync_to_async(retire)(lab.owner, version_id=version.pk)
    await reconciler.reconcile()
    assert not await lab.loaded(version)
