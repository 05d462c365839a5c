"""A channel to the site's gRPC port, and its stub."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest_asyncio
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.doors.site import Site


@pytest_asyncio.fixture
async def channel(site: Site) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(site.grpc) as channel:
        yield channel


@pytest_asyncio.fixture
async def stub(channel: grpc.aio.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)
