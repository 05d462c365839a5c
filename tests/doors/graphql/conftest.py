"""`talker`: openlab/talker, a model that streams, on the site's Triton; acme has subscribed to it, by token."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference import gateway
from inference.models import Deployment, DeploymentStatus
from marketplace.catalog.models import Datatype, Direction, ModelTask, ModelVersion
from marketplace.subscriptions.models import MeteredUnit
from marketplace.tenants.models import Tenant
from tests import factories
from tests.doors.site import Site

SOURCE = Path(__file__).with_name("talker.py")
OUTPUTS = {
    "text_output": Datatype.BYTES,
    "token_count": Datatype.INT64,
    "prompt_token_count": Datatype.INT64,
    "finish_reason": Datatype.BYTES,
}


@pytest.fixture(scope="session")
def talker(site: Site) -> Iterator[str]:
    version = site.records(lambda: _put_up(site.triton_grpc))
    config = {
        "name": version.triton_name,
        "backend": "python",
        "max_batch_size": 0,
        "model_transaction_policy": {"decoupled": True},
        "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [
            {"name": name, "data_type": f"TYPE_{datatype.replace('BYTES', 'STRING')}", "dims": [1]}
            for name, datatype in OUTPUTS.items()
        ],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }

    async def load() -> None:
        await gateway.load(site.triton_grpc, version.triton_name, config, {"1/model.py": SOURCE.read_bytes()})
        await gateway.close()

    async def unload() -> None:
        await gateway.unload(site.triton_grpc, version.triton_name)
        await gateway.close()

    asyncio.run(load())
    yield "openlab/talker"
    asyncio.run(unload())


def _put_up(endpoint: str) -> ModelVersion:
    openlab, acme = (Tenant.objects.get(slug=slug) for slug in ("openlab", "acme"))
    model = factories.model(openlab, "talker", task=ModelTask.TEXT_GENERATION)
    version = factories.version(model, decoupled=True)
    version.tensors.all().delete()
    one: dict[str, Any] = {"shape": [1]}
    factories.tensor(version, Direction.INPUT, "text_input", datatype=Datatype.BYTES, **one)
    for position, (name, datatype) in enumerate(OUTPUTS.items()):
        factories.tensor(version, Direction.OUTPUT, name, datatype=datatype, position=position, **one)
    Deployment.objects.create(version=version, endpoint=endpoint, status=DeploymentStatus.READY)
    factories.subscription(
        acme, factories.plan(model, unit=MeteredUnit.TOKEN, included_units=10_000_000, max_tokens_per_call=1000)
    )
    return version
