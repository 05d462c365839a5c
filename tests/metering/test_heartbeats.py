"""What runs long stays admitted while its process lives, and what lost its units is stopped."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from inference import tasks
from marketplace.catalog.models import MLModel
from marketplace.errors import ModelUnavailable
from marketplace.metering import heartbeats
from marketplace.metering.admission import release, settle
from marketplace.metering.heartbeats import beating
from marketplace.metering.models import Hold

from .contract import contract

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)


async def until_executing(acme_hold: object) -> Hold:
    while True:
        hold = await Hold.objects.aget(pk=acme_hold)
        if hold.state == "executing":
            return hold
        await asyncio.sleep(0.01)


async def test_a_call_that_outlives_its_lease_is_executing_and_is_settled_as_any_other() -> None:
    acme = await contract()
    hold_id = await acme.admit(lease=0)

    with beating(hold_id) as beat, beat.awaiting():
        hold = await until_executing(hold_id)
        reaped = await sync_to_async(tasks.release_expired_holds)()

    assert hold.expires_at > hold.created_at
    assert reaped == 0
    assert await settle(hold_id, latency_ms=1) == 1


async def test_one_whose_process_stops_beating_is_given_back() -> None:
    acme = await contract()
    hold_id = await acme.admit(lease=-1)

    assert await sync_to_async(tasks.release_expired_holds)() == 1
    assert await settle(hold_id, latency_ms=1) is None


async def test_an_executing_one_expires_as_well() -> None:
    acme = await contract()
    hold_id = await acme.admit()
    with beating(hold_id) as beat, beat.awaiting():
        await until_executing(hold_id)

    await Hold.objects.aupdate(expires_at=(await Hold.objects.aget()).created_at)

    assert await sync_to_async(tasks.release_expired_holds)() == 1
    assert (await acme.quota()).held == 0


async def test_a_call_whose_hold_was_given_back_is_stopped_and_told_so() -> None:
    acme = await contract()
    hold_id = await acme.admit()
    await release(hold_id, because="EXPIRED")

    with pytest.raises(ModelUnavailable, match="lost the units"), beating(hold_id) as beat, beat.awaiting():
        await asyncio.Event().wait()


async def test_a_call_whose_model_was_taken_down_is_stopped_and_told_so() -> None:
    acme = await contract()
    hold_id = await acme.admit()
    await MLModel.objects.aupdate(taken_down_at=timezone.now())

    with pytest.raises(ModelUnavailable, match="its model was taken down"), beating(hold_id) as beat, beat.awaiting():
        await asyncio.Event().wait()

    assert await release(hold_id, because="MODEL_UNAVAILABLE")


async def test_a_caller_that_leaves_is_cancelled_as_ever() -> None:
    acme = await contract()
    hold_id = await acme.admit()

    async def call() -> None:
        with beating(hold_id) as beat, beat.awaiting():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(call())
    await until_executing(hold_id)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
