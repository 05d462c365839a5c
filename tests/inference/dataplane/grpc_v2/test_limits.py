"""What one caller can take up: places, memory, and time before anything has been said."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from pytest_django import Settings

from inference import callers
from inference.dataplane import memory
from inference.dataplane.grpc_v2 import conversation
from inference.oip import ModelInferRequest, ModelReadyRequest
from tests.inference.dataplane.grpc_v2.calls import refusal

pytestmark = pytest.mark.django_db(transaction=True)


LARGE = ModelInferRequest(model_name="openlab/add", raw_input_contents=[bytes(memory.LARGE + 1)])


async def test_a_key_has_so_many_calls_under_way(stub: Any, metadata: Any, settings: Settings) -> None:
    settings.CALLS_PER_KEY = 1
    stream = stub.ModelStreamInfer(metadata=metadata)
    await stream.write(ModelInferRequest())
    assert "1 calls under way" in (await stream.read()).error_message

    refused = await refusal(stub.ModelInfer(ModelInferRequest(), metadata=metadata))

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert (await refusal(stub.ModelInfer(ModelInferRequest(), metadata=metadata))).code() is grpc.StatusCode.NOT_FOUND


async def test_strangers_share_the_places_of_one(stub: Any, settings: Settings) -> None:
    settings.CALLS_PER_KEY = 0

    refused = await refusal(stub.ModelReady(ModelReadyRequest(name="openlab/add")))

    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_large_messages_are_held_while_there_is_room(
    stub: Any, metadata: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_BYTES", memory.LARGE)

    refused = await refusal(stub.ModelInfer(LARGE, metadata=metadata))
    [answer] = [each async for each in stub.ModelStreamInfer(iter([LARGE]), metadata=metadata)]

    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert answer.error_message == refused.details()
    assert memory._held == 0


async def test_who_says_nothing_is_not_waited_for(
    channel: grpc.aio.Channel, metadata: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "READ_SECONDS", 0.05)

    call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(metadata=metadata)

    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_streams_and_calls_that_are_cut_leave_nothing_behind(
    channel: grpc.aio.Channel, stub: Any, metadata: Any
) -> None:
    infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    for number in range(200):
        stream = stub.ModelStreamInfer(metadata=metadata)
        await stream.write(ModelInferRequest())
        if number % 2:
            await stream.read()
        silent = infer(metadata=metadata)
        await silent.write(b"") if number % 3 else await silent.wait_for_connection()
        stream.cancel()
        silent.cancel()

    async with asyncio.timeout(60):
        # What the server, the pool of connections and this test have by themselves is a dozen.
        while callers._under_way or len(asyncio.all_tasks()) > 50:  # noqa: ASYNC110  (the server hears of it later)
            await asyncio.sleep(0.02)
