"""The real Triton that the tests run beside, and models deployed on it for the length of a test."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import settings

from inference import gateway
from inference.formats import read_signature
from inference.repository import triton_models

# How fast an example runs says more about the machine than about us.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

Deploy = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def triton() -> str:
    """Its gRPC address."""
    urls = os.environ.get("TRITON_URLS")
    if not urls:
        pytest.fail("There is no Triton to test with: run `make test`.")
    return urls.partition(",")[0]


@pytest.fixture(autouse=True)
def _patient(patient: None) -> None:
    """Nothing here is about a PostgreSQL that is away."""


@pytest_asyncio.fixture(autouse=True)
async def _channels_end_with_the_event_loop() -> AsyncIterator[None]:
    yield
    await gateway.close()


@pytest_asyncio.fixture
async def deploy(triton: str) -> AsyncIterator[Deploy]:
    """`await deploy(artifact, "onnx")` loads an artefact under a name of its own, which it answers."""
    names: list[str] = []

    async def load(artifact: bytes, model_format: str = "onnx", *, address: str = triton) -> str:
        name = f"{uuid4()}-v1"
        for model in triton_models(name, model_format, artifact, read_signature(artifact, model_format)):
            if address == triton:
                names.append(model.name)
            await gateway.load(address, model.name, model.config, model.files)
        return name

    yield load
    for name in reversed(names):
        await gateway.unload(triton, name)
