"""The unmodified `openai` package against the site, its own retries off unless a test is about them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
import pytest_asyncio
from django.conf import settings
from openai import AsyncOpenAI, OpenAI

from inference import gateway
from inference.formats import read_signature
from inference.models import Deployment, DeploymentStatus
from inference.repository import triton_models
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.tenants.models import Tenant
from tests import factories
from tests.doors.site import Site
from tests.inference import generators

# By a name in `site.keys`, or a key itself.
Client = Callable[..., OpenAI]
AsyncClient = Callable[..., AsyncOpenAI]


def _options(site: Site, who: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": f"{site.url}/v1", "api_key": site.keys.get(who, who), "max_retries": 0, **options}


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with ExitStack() as opened:
        yield lambda who="subscriber", **options: opened.enter_context(OpenAI(**_options(site, who, options)))


@pytest_asyncio.fixture
async def async_client(site: Site) -> AsyncIterator[AsyncClient]:
    async with AsyncExitStack() as opened:

        def made(who: str = "subscriber", **options: Any) -> AsyncOpenAI:
            one = AsyncOpenAI(**_options(site, who, options))
            opened.push_async_exit(one)
            return one

        yield made


@pytest.fixture(scope="session")
def babbler(site: Site) -> str:
    """A small language model that acme has subscribed to, by the token. Nobody reconciles here: we load it."""

    def put_up() -> ModelVersion:
        openlab, acme = (Tenant.objects.get(slug=slug) for slug in ("openlab", "acme"))
        generators.publish(factories.principal(openlab))
        model = MLModel.objects.get(publisher=openlab, name="babbler")
        factories.subscription(acme, model.plans.get(name="Scale"))
        version = ModelVersion.objects.select_related("model").get(model=model)
        Deployment.objects.create(version=version, endpoint=site.triton_grpc, status=DeploymentStatus.READY)
        return version

    async def load(name: str) -> None:
        archive = generators.archive()
        for model in triton_models(name, "ensemble", archive, read_signature(archive, "ensemble")):
            await gateway.load(site.triton_grpc, model.name, model.config, model.files)
        await gateway.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "OBJECTS_DIR", site.folder / "objects")
        version = site.records(put_up)
    asyncio.run(load(version.triton_name))
    return "openlab/babbler"
