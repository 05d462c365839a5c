"""`openlab/count`, the model of tests/inference/counting.py, at one of Triton's addresses; and calls of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from inference import gateway
from inference.models import Deployment
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.metering.models import Quota
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey, Tenant
from tests import factories
from tests.doors.site import Server, Site
from tests.inference import counting

REF = "openlab/count"
DOCUMENT = """
subscription ($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    ... on InvocationChunk { outputs { name data } }
    ... on InvokeModelPayload {
      invocation { units }
      errors { __typename code message ... on ModelUnavailable { retryAfterMs } }
    }
  }
}"""


def put_up(site: Site, endpoint: str) -> str:
    """Loads it there; answers with the key of a tenant that has subscribed to it by token."""
    version = site.records(lambda: _version(endpoint))

    async def load() -> None:
        await counting.load(endpoint, version.triton_name)
        await gateway.close()

    asyncio.run(load())
    return site.customer(REF, unit="TOKEN", included_units=100_000, max_tokens_per_call=50_000)


def _version(endpoint: str) -> ModelVersion:
    model = MLModel.objects.by_ref(REF).first()
    if model is None:
        model = factories.model(Tenant.objects.get(slug="openlab"), "count")
        made = factories.version(model, decoupled=True)
        made.tensors.all().delete()
        for direction, tensors in (("INPUT", counting.INPUTS), ("OUTPUT", counting.OUTPUTS)):
            for position, (name, datatype) in enumerate(tensors.items()):
                factories.tensor(made, direction, name, datatype=datatype, shape=[1], position=position)
    version = ModelVersion.objects.get(model=model)
    Deployment.objects.update_or_create(version=version, endpoint=endpoint, defaults={"status": "READY"})
    return version


def asked(times: int, **parameters: Any) -> dict[str, Any]:
    """The body of a GraphQL request."""
    inputs = [{"name": "times", "datatype": "INT64", "shape": [1], "data": [times]}]
    return {
        "query": DOCUMENT,
        "variables": {
            "input": {"model": REF, "inputs": inputs, "parameters": {n: _plain(v) for n, v in parameters.items()}}
        },
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


class Stream:
    """A call by GraphQL over SSE, read line by line: `events` are what invokeModel was so far."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.events: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any] | None:
        async for line in self._lines:
            if line.startswith("data: "):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))["data"]["invokeModel"]
                self.events.append(event)
                return event
        return None

    async def rest(self) -> list[dict[str, Any]]:
        while await self.next() is not None:
            pass
        return self.events


@asynccontextmanager
async def streaming(server: Server, key: str, times: int, **parameters: Any) -> AsyncIterator[Stream]:
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/graphql", json=asked(times, **parameters), headers=headers) as answer,
    ):
        yield Stream(answer)


def charged(site: Site, key: str) -> tuple[Decimal, Decimal, int]:
    """Settled and held units, and calls that run, of the key's tenant."""

    def found() -> tuple[Decimal, Decimal, int]:
        tenant = ApiKey.objects.get(digest=keys.digest(key)).tenant_id
        quota = Quota.objects.get(model_subscription__tenant=tenant)
        return quota.settled, quota.held, quota.running

    return site.records(found)


async def until_charged(site: Site, key: str) -> Decimal:
    """Settled units, once nothing is held."""
    while True:
        settled, held, running = await asyncio.to_thread(charged, site, key)
        if not held and not running:
            return settled
        await asyncio.sleep(0.02)
