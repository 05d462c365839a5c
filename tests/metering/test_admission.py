"""Admission and settlement: what is delivered is charged once, what is not delivered is given back."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import uuid_utils.compat as uuid
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, transaction

from marketplace.access import Principal, TenantRole
from marketplace.errors import (
    IdempotencyConflict,
    ModelUnavailable,
    QuotaExceeded,
    RateLimited,
    SubscriptionRequired,
)
from marketplace.metering.admission import admit, release, settle
from marketplace.metering.models import Hold, LedgerEntry, StoredAnswer
from marketplace.subscriptions import actions
from marketplace.subscriptions.models import ModelSubscription
from tests import factories

from .contract import Contract, contract

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_settled_call_moves_its_units_from_held_to_settled() -> None:
    acme = await contract()

    hold = await acme.admit()
    held = await acme.quota()
    settled = await settle(hold, latency_ms=2.5)

    after = await acme.quota()
    assert (held.held, held.settled) == (1, 0)
    assert settled
    assert (after.held, after.settled, after.limit) == (0, 1, 10)


async def test_a_released_call_costs_nothing() -> None:
    acme = await contract()

    hold = await acme.admit()
    released = await release(hold, because="INFERENCE_FAILED")

    after = await acme.quota()
    assert released
    assert (after.held, after.settled) == (0, 0)
    assert not await LedgerEntry.objects.aexists()


async def test_settling_twice_charges_once() -> None:
    acme = await contract()
    hold = await acme.admit()

    first, second = await settle(hold, latency_ms=1), await settle(hold, latency_ms=1)

    assert (first, second) == (1, None)
    assert (await acme.quota()).settled == 1


async def test_a_released_hold_can_no_longer_be_settled() -> None:
    acme = await contract()
    hold = await acme.admit()
    await release(hold, because="EXPIRED")

    assert await settle(hold, latency_ms=1) is None
    assert (await acme.quota()).settled == 0


async def test_the_two_sides_of_a_charge_sum_to_zero() -> None:
    acme = await contract()
    await settle(await acme.admit(), latency_ms=1)

    entries = {entry.account: entry async for entry in LedgerEntry.objects.all()}

    assert entries["consumer"].units == -1
    assert entries["publisher"].units == 1
    assert entries["consumer"].tenant_id == acme.consumer.pk
    assert entries["publisher"].tenant_id == acme.publisher.pk


async def test_units_past_the_included_ones_cost_the_overage_price() -> None:
    acme = await contract(included_units=1, overage_price=Decimal("0.25"))

    for _ in range(3):
        await settle(await acme.admit(), latency_ms=1)

    amounts = [e.amount async for e in LedgerEntry.objects.filter(account="publisher").order_by("id")]
    assert amounts == [0, Decimal("0.25"), Decimal("0.25")]


async def test_what_a_period_costs_can_be_counted_whatever_a_unit_costs() -> None:
    acme = await contract(included_units=1, overage_price=Decimal("999999999999999.999999999"))

    await settle(await acme.admit(), latency_ms=1)

    with pytest.raises(QuotaExceeded):
        await acme.admit()
    assert (await acme.quota()).limit == Decimal("1.4")


async def test_concurrent_callers_never_pass_the_limit_and_waste_no_unit_of_it() -> None:
    acme = await contract(included_units=25)
    start = asyncio.Barrier(60)

    async def call() -> str:
        await start.wait()
        try:
            await settle(await acme.admit(), latency_ms=1)
        except QuotaExceeded:
            return "refused"
        return "charged"

    outcomes = await asyncio.gather(*(call() for _ in range(60)))

    quota = await acme.quota()
    assert outcomes.count("charged") == 25
    assert (quota.settled, quota.held) == (25, 0)


async def test_a_used_up_quota_says_what_is_left_and_when_it_comes_back() -> None:
    acme = await contract(included_units=1)
    await acme.admit()

    with pytest.raises(QuotaExceeded) as refusal:
        await acme.admit()

    quota = await acme.quota()
    assert (refusal.value.limit, refusal.value.remaining) == (1, 0)
    assert refusal.value.resets_at == quota.period_end


async def test_the_plan_rate_refuses_what_comes_too_soon_and_says_how_long_to_wait() -> None:
    acme = await contract(requests_per_second=1, burst=2)
    await acme.admit()
    await acme.admit()

    with pytest.raises(RateLimited) as refusal:
        await acme.admit()

    assert 0 < refusal.value.retry_after_ms <= 1000
    assert (await acme.quota()).held == 2


async def test_without_a_subscription_nothing_is_admitted() -> None:
    acme = await contract()
    stranger = Principal(tenant_id=(await sync_to_async(factories.tenant)("globex")).pk, role=TenantRole.OWNER)

    with pytest.raises(SubscriptionRequired):
        await admit(stranger, version_id=acme.version.pk, most_seconds=10, lease=60)


@pytest.mark.parametrize("status", ["CANCELLED", "SUSPENDED"])
async def test_an_ended_subscription_admits_nothing_from_the_next_call_on(status: str) -> None:
    acme = await contract()
    await acme.admit()
    await ModelSubscription.objects.aupdate(status=status)

    with pytest.raises(SubscriptionRequired):
        await acme.admit()


async def test_publishers_call_their_own_models_without_a_subscription_and_at_no_charge() -> None:
    acme = await contract()
    pat = Principal(tenant_id=acme.publisher.pk, role=TenantRole.OWNER)

    admission = await admit(pat, version_id=acme.version.pk, most_seconds=10, lease=60)
    await settle(admission.hold_id, latency_ms=1)

    assert (await Hold.objects.aget()).charged == 1
    assert {entry.amount async for entry in LedgerEntry.objects.all()} == {0}


async def test_the_same_key_and_request_is_answered_again_and_charged_once() -> None:
    acme = await contract()
    hold = await acme.admit(idempotency_key="a", digest=b"1")
    await settle(hold, latency_ms=1, answer=b"answer")

    again = await admit(
        acme.principal, version_id=acme.version.pk, most_seconds=10, lease=60, idempotency_key="a", digest=b"1"
    )

    assert again.replayed
    assert again.hold_id == hold
    assert bytes((await StoredAnswer.objects.aget(hold_id=hold)).content) == b"answer"
    assert (await acme.quota()).settled == 1


async def test_the_same_key_with_another_request_is_a_conflict() -> None:
    acme = await contract()
    await acme.admit(idempotency_key="a", digest=b"1")

    with pytest.raises(IdempotencyConflict):
        await acme.admit(idempotency_key="a", digest=b"2")


async def test_of_many_calls_at_once_with_one_key_one_runs() -> None:
    acme = await contract()
    start = asyncio.Barrier(8)

    async def call() -> str:
        await start.wait()
        try:
            await acme.admit(idempotency_key="a", digest=b"1")
        except ModelUnavailable:
            return "in progress"
        return "admitted"

    outcomes = await asyncio.gather(*(call() for _ in range(8)))

    assert outcomes.count("admitted") == 1
    assert (await acme.quota()).held == 1


async def test_a_key_whose_call_failed_may_be_used_again() -> None:
    acme = await contract()
    await release(await acme.admit(idempotency_key="a", digest=b"1"), because="MODEL_UNAVAILABLE")

    again = await acme.admit(idempotency_key="a", digest=b"1")

    assert (await Hold.objects.aget(pk=again)).state == "held"


async def test_what_nobody_settled_is_given_back_once_it_expires() -> None:
    acme = await contract()
    await acme.admit(lease=-1)
    alive = await acme.admit(lease=60)

    def reap() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT metering_release_expired(100)")
            return int(cursor.fetchone()[0])

    assert await sync_to_async(reap)() == 1
    assert (await acme.quota()).held == 1
    assert (await Hold.objects.aget(state="held")).pk == alive


async def test_subscribing_again_brings_no_used_unit_back() -> None:
    acme = await contract(included_units=1)
    await acme.admit()
    owner = Principal(tenant_id=acme.consumer.pk, role=TenantRole.OWNER)

    await sync_to_async(actions.cancel)(owner, subscription_id=acme.subscription.pk)
    await sync_to_async(actions.subscribe)(owner, model_ref="openlab/add", plan_id=acme.plan.pk)

    with pytest.raises(QuotaExceeded):
        await acme.admit()


async def test_a_smaller_plan_counts_what_the_larger_one_used() -> None:
    acme = await contract(included_units=10)
    for _ in range(3):
        await settle(await acme.admit(), latency_ms=1)
    small = await sync_to_async(factories.plan)(acme.version.model, name="Small", included_units=2)

    await ModelSubscription.objects.aupdate(plan=small)

    with pytest.raises(QuotaExceeded) as refusal:
        await acme.admit()
    assert refusal.value.remaining == 0


def test_the_ledger_refuses_to_be_changed() -> None:
    acme = Contract()
    hold = Hold.objects.create(
        id=uuid.uuid7(),
        tenant=acme.consumer,
        version=acme.version,
        units=1,
        created_at=datetime.now(UTC),
        expires_at=datetime.now(UTC),
    )
    entry = LedgerEntry.objects.create(
        hold=hold,
        kind="charge",
        account="consumer",
        tenant=acme.consumer,
        units=-1,
        amount=0,
        currency="USD",
        created_at=datetime.now(UTC),
    )

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        LedgerEntry.objects.filter(pk=entry.pk).update(units=0)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        entry.delete()


@pytest.mark.parametrize(
    ("anchor", "at", "start", "end"),
    [
        ("2026-01-15T10:00", "2026-01-15T10:00", "2026-01-15T10:00", "2026-02-15T10:00"),
        ("2026-01-15T10:00", "2026-02-15T09:59", "2026-01-15T10:00", "2026-02-15T10:00"),
        ("2026-01-15T10:00", "2026-02-15T10:00", "2026-02-15T10:00", "2026-03-15T10:00"),
        ("2026-01-31T00:00", "2026-02-28T00:00", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2026-01-31T00:00", "2026-03-30T23:59", "2026-02-28T00:00", "2026-03-31T00:00"),
        ("2024-02-29T12:00", "2025-02-28T12:00", "2025-02-28T12:00", "2025-03-29T12:00"),
        ("2025-12-31T23:00", "2026-01-31T22:59", "2025-12-31T23:00", "2026-01-31T23:00"),
    ],
)
def test_periods_are_months_from_the_day_of_subscribing(anchor: str, at: str, start: str, end: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM metering_period(%s, %s)", [anchor + "Z", at + "Z"])
        period = cursor.fetchone()

    assert period == (datetime.fromisoformat(start + "+00:00"), datetime.fromisoformat(end + "+00:00"))


def test_periods_follow_each_other_without_gap_or_overlap() -> None:
    anchor = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
    with connection.cursor() as cursor:
        moment, ends = anchor, []
        for _ in range(30):
            cursor.execute("SELECT * FROM metering_period(%s, %s)", [anchor, moment])
            start, end = cursor.fetchone()
            assert start == moment
            cursor.execute("SELECT * FROM metering_period(%s, %s)", [anchor, end - timedelta(microseconds=1)])
            assert cursor.fetchone() == (start, end)
            moment = end
            ends.append(end)

    assert ends == sorted(set(ends))
