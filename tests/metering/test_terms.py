"""What a plan counts, how much of it at once, and how much money it may come to."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from marketplace.errors import BudgetExceeded, QuotaExceeded, RateLimited
from marketplace.metering import ledger
from marketplace.metering.admission import admit, release, settle
from marketplace.metering.models import Budget, Hold, LedgerEntry, Quota, Spending
from marketplace.subscriptions import actions
from tests import factories

from .contract import Contract, contract

pytestmark = pytest.mark.django_db(transaction=True)

QUARTER = Decimal("0.25")


async def budget(acme: Contract, amount: str, *, key: UUID | None = None, currency: str = "USD") -> Budget:
    return await Budget.objects.acreate(tenant=acme.consumer, api_key_id=key, amount=Decimal(amount), currency=currency)


async def with_key(acme: Contract) -> UUID:
    key = await sync_to_async(factories.api_key_row)(acme.consumer)
    acme.principal = replace(acme.principal, api_key_id=key.pk)
    return key.pk


async def exact() -> bool:
    return (await sync_to_async(ledger.check)()).exact


async def test_a_plan_may_count_elements_of_the_input() -> None:
    acme = await contract(unit="ELEMENT", included_units=10)

    charged = await settle(await acme.admit(elements=7), latency_ms=1)
    with pytest.raises(QuotaExceeded) as refused:
        await acme.admit(elements=4)
    await acme.admit(elements=3)

    assert charged == 7
    assert refused.value.remaining == 3
    assert [(await acme.quota()).settled, (await acme.quota()).held] == [7, 3]


async def test_a_plan_may_count_seconds_and_charges_those_that_were_taken_in_whole_milliseconds() -> None:
    acme = await contract(unit="SECOND", included_units=60)

    hold = await acme.admit(most_seconds=10)
    held = (await acme.quota()).held
    charged = await settle(hold, latency_ms=1234.2)

    assert held == 10
    assert charged == Decimal("1.235")
    assert [(await acme.quota()).settled, (await acme.quota()).held] == [Decimal("1.235"), 0]
    assert await exact()


async def test_a_call_may_take_as_long_as_there_is_something_left_to_pay_it_with() -> None:
    acme = await contract(unit="SECOND", included_units=4)

    admission = await admit(acme.principal, version_id=acme.version.pk, most_seconds=10)
    with pytest.raises(QuotaExceeded):
        await acme.admit()
    charged = await settle(admission.hold_id, latency_ms=5000)

    assert (admission.unit, admission.units) == ("SECOND", 4)
    assert charged == 4


async def test_a_plan_may_count_tokens_and_charges_those_that_the_model_counted_but_never_more_than_it_held() -> None:
    acme = await contract(unit="TOKEN", max_tokens_per_call=100, included_units=250)

    holds = [await acme.admit() for _ in range(2)]
    held = (await acme.quota()).held
    charged = [await settle(hold, latency_ms=1, tokens=tokens) for hold, tokens in zip(holds, (7, 1000), strict=True)]

    assert held == 200
    assert charged == [7, 100]
    assert [(await acme.quota()).settled, (await acme.quota()).held] == [107, 0]
    assert await exact()


async def test_the_last_tokens_of_a_quota_are_not_refused() -> None:
    acme = await contract(unit="TOKEN", max_tokens_per_call=100, included_units=30)

    admission = await admit(acme.principal, version_id=acme.version.pk, most_seconds=10)
    with pytest.raises(QuotaExceeded):
        await acme.admit()

    assert (admission.unit, admission.units) == ("TOKEN", 30)


async def test_no_more_calls_run_at_the_same_time_than_the_plan_says() -> None:
    acme = await contract(max_concurrency=2)
    first, second = await acme.admit(), await acme.admit()

    with pytest.raises(RateLimited) as refused:
        await acme.admit()
    await settle(first, latency_ms=1)
    third = await acme.admit()
    with pytest.raises(RateLimited):
        await acme.admit()
    await release(second, because="CANCELLED")
    await release(third, because="CANCELLED")

    assert refused.value.retry_after_ms > 0
    assert (await acme.quota()).running == 0


async def test_calls_of_the_last_period_that_still_run_count_as_running() -> None:
    acme = await contract(max_concurrency=1)
    hold = await acme.admit()

    await a_month_passes(acme)
    with pytest.raises(RateLimited):
        await acme.admit()
    await settle(hold, latency_ms=1)
    await acme.admit()

    assert [(quota.settled, quota.held) async for quota in Quota.objects.order_by("period_start")] == [(1, 0), (0, 1)]


async def a_month_passes(acme: Contract) -> None:
    """Seen from the contract: all that it has lies a month further back."""

    def shift() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE subscriptions_modelsubscription SET created_at = created_at - interval '1 month'")
            cursor.execute(
                "UPDATE metering_quota SET period_start = period_start - interval '1 month', "
                "period_end = period_end - interval '1 month'"
            )

    await sync_to_async(shift)()


async def test_a_tenant_s_spending_cap_refuses_what_would_cost_more_and_included_units_cost_nothing() -> None:
    acme = await contract(included_units=1, overage_price=QUARTER)
    await budget(acme, "0.60")

    for _ in range(3):
        await settle(await acme.admit(), latency_ms=1)
    with pytest.raises(BudgetExceeded) as refused:
        await acme.admit()

    spending = await Spending.objects.aget()
    assert (refused.value.limit, refused.value.remaining, refused.value.currency) == (
        Decimal("0.60"),
        Decimal("0.10"),
        "USD",
    )
    assert refused.value.resets_at == spending.period_end
    assert (spending.settled, spending.held) == (Decimal("0.50"), 0)
    assert [entry.amount async for entry in LedgerEntry.objects.filter(account="publisher").order_by("id")] == [
        0,
        QUARTER,
        QUARTER,
    ]
    assert await exact()


async def test_the_cap_is_one_for_all_of_the_tenant_s_models() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await budget(acme, "0.50")
    other = await sync_to_async(factories.version)(await sync_to_async(factories.model)(acme.publisher, "other"))
    plan = await sync_to_async(factories.plan)(other.model, included_units=0, overage_price=QUARTER)
    await sync_to_async(factories.subscription)(acme.consumer, plan)

    await acme.admit()
    await acme.admit(version_id=other.pk)

    for version in (acme.version, other):
        with pytest.raises(BudgetExceeded, match="spending cap"):
            await acme.admit(version_id=version.pk)


async def test_a_key_s_budget_binds_that_key_alone() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    key = await with_key(acme)
    await budget(acme, "0.25", key=key)

    await acme.admit()
    with pytest.raises(BudgetExceeded, match="API key's budget"):
        await acme.admit()
    await with_key(acme)
    await acme.admit()

    assert (await acme.quota()).held == 2


async def test_of_cap_and_budget_the_narrower_one_is_named() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await budget(acme, "0.30", key=await with_key(acme))
    await budget(acme, "0.25")

    await acme.admit()

    with pytest.raises(BudgetExceeded, match=r"spending cap of 0\.25 USD"):
        await acme.admit()


async def test_what_failed_is_spent_no_longer() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await budget(acme, "0.25", key=await with_key(acme))
    await budget(acme, "0.25")

    await release(await acme.admit(), because="INFERENCE_FAILED")
    await settle(await acme.admit(), latency_ms=1)

    assert [(spending.settled, spending.held) async for spending in Spending.objects.all()] == [(QUARTER, 0)] * 2
    assert await exact()


async def test_seconds_are_held_as_far_as_the_cap_reaches_and_what_was_not_taken_comes_back() -> None:
    acme = await contract(unit="SECOND", included_units=1, overage_price=Decimal("0.1"))
    await budget(acme, "0.5")

    admission = await admit(acme.principal, version_id=acme.version.pk, most_seconds=10)
    await settle(admission.hold_id, latency_ms=2000)

    spending = await Spending.objects.aget()
    hold = await Hold.objects.aget()
    assert admission.units == 6
    assert hold.charged == 2
    assert (await LedgerEntry.objects.aget(account="publisher")).amount == Decimal("0.1")
    # What a budget counts is never less than the bill.
    assert Decimal("0.1") <= spending.settled <= Decimal("0.5")
    assert spending.held == 0
    assert await exact()


async def test_a_cap_in_another_currency_says_nothing_about_this_plan() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await budget(acme, "0", currency="EUR")

    await acme.admit()


async def test_a_cap_that_is_lowered_takes_nothing_back_and_admits_nothing_more() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    cap = await budget(acme, "1")
    hold = await acme.admit()

    await Budget.objects.filter(pk=cap.pk).aupdate(amount=0)
    with pytest.raises(BudgetExceeded):
        await acme.admit()

    assert await settle(hold, latency_ms=1) == 1
    assert await exact()


async def test_a_call_under_way_is_charged_on_the_terms_it_was_admitted_on() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    hold = await acme.admit()
    dear = await sync_to_async(factories.plan)(acme.version.model, included_units=0, overage_price=Decimal(9))

    await sync_to_async(actions.subscribe)(factories.principal(acme.consumer), model_ref="openlab/add", plan_id=dear.pk)
    await settle(hold, latency_ms=1)

    assert (await LedgerEntry.objects.aget(account="publisher")).amount == QUARTER


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_bill_is_the_same_in_whichever_order_calls_end(order: tuple[int, int]) -> None:
    acme: Any = await contract(included_units=1, overage_price=QUARTER)
    holds = [await acme.admit(), await acme.admit()]

    for number in order:
        await settle(holds[number], latency_ms=1)

    entries = LedgerEntry.objects.filter(account="publisher").order_by("id")
    assert [entry.amount async for entry in entries] == [0, QUARTER]
