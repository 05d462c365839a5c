"""The gRPC server in the test's own event loop and on its database, where a test can look and reach inside."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest_asyncio
from asgiref.sync import sync_to_async
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.dataplane import grpc_v2
from tests import factories


@pytest_asyncio.fixture
async def channel(transactional_db: None) -> AsyncIterator[grpc.aio.Channel]:
    door = await grpc_v2.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        yield channel
    await door.stop(0)


@pytest_asyncio.fixture
async def stub(channel: grpc.aio.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


@pytest_asyncio.fixture
async def metadata(transactional_db: None) -> tuple[tuple[str, str], ...]:
    key = await sync_to_async(lambda: factories.api_key(factories.tenant()))()
    return (("authorization", f"Bearer {key}"),)
