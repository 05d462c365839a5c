"""A client that does not read: its model waits for it, and is stopped when it waits too long."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from inference.dataplane.grpc_v2 import stream
from inference.invocation import Chunk
from inference.oip import ModelInferRequest
from inference.tensors import Datatype, Tensor

pytestmark = pytest.mark.django_db(transaction=True)

MEGABYTE = Tensor("text", Datatype.UINT8, (2**20,), bytes(2**20))


class Endless:
    """Answers of a megabyte, as many as anybody takes."""

    def __init__(self) -> None:
        self.taken = 0
        self.stopped = asyncio.Event()

    async def __call__(self, _secret: str, **_call: Any) -> AsyncGenerator[Chunk]:
        version: Any = SimpleNamespace(decoupled=True, number=1)
        try:
            while True:
                yield Chunk(id=uuid4(), version=version, outputs=(MEGABYTE,))
                self.taken += 1
        finally:
            self.stopped.set()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Endless:
    endless = Endless()
    monkeypatch.setattr(stream, "stream_by_key", endless)
    return endless


async def test_no_more_is_asked_of_the_model_than_is_taken(stub: Any, metadata: Any, model: Endless) -> None:
    call = stub.ModelStreamInfer(metadata=metadata)
    await call.write(ModelInferRequest())
    for _ in range(3):
        assert (await call.read()).infer_response.outputs
    # What the connection holds is filled up, more where it is faster; from then on nothing moves.
    before = -1
    while before != model.taken:
        before = model.taken
        await asyncio.sleep(0.3)

    assert model.taken < 3 + 64
    assert not model.stopped.is_set()
    call.cancel()
    await asyncio.wait_for(model.stopped.wait(), 60)


async def test_who_takes_nothing_for_too_long_is_given_up(
    stub: Any, metadata: Any, model: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALLED_SECONDS", 0.3)
    call = stub.ModelStreamInfer(metadata=metadata)
    await call.write(ModelInferRequest())
    assert (await call.read()).infer_response.outputs

    await asyncio.wait_for(model.stopped.wait(), 60)

    call.cancel()
