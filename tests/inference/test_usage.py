"""Figures by day are the sums of the ledger: every entry once, whenever it is charged, refunded and counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from inference import usage
from marketplace.metering.admission import SETTLE, admit, settle
from marketplace.metering.models import LedgerEntry
from marketplace.subscriptions.models import DailyUsage
from tests import factories
from tests.metering.contract import Contract, contract

pytestmark = pytest.mark.django_db(transaction=True)

QUARTER = Decimal("0.25")


async def counted() -> list[tuple[Any, ...]]:
    """After one more count, which is the ledger's own sum: (plan, calls, units, amount), a row each."""
    assert await sync_to_async(usage.count)()
    assert await sync_to_async(usage.differences)() == []
    rows = DailyUsage.objects.order_by("id").values_list("plan", "calls", "units", "amount")
    return [row async for row in rows]


async def called(acme: Contract, **arguments: Any) -> UUID:
    hold = await acme.admit(**arguments)
    assert await settle(hold, latency_ms=1) is not None
    return hold


async def refunded(hold: UUID) -> None:
    def refund() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT metering_refund(%s::uuid[], 'UNDELIVERED')", [[hold]])
            assert cursor.fetchone()[0] == [True]

    await sync_to_async(refund)()


async def test_what_was_charged_is_counted_once_however_often_one_counts() -> None:
    acme = await contract(included_units=1, overage_price=QUARTER)
    for _ in range(3):
        await called(acme)
    assert await counted() == [(acme.plan.pk, 3, 3, 2 * QUARTER)]
    await called(acme)

    for _ in range(2):
        assert await counted() == [(acme.plan.pk, 4, 4, 3 * QUARTER)]
    assert await LedgerEntry.objects.filter(account="publisher").acount() == 4


async def test_units_are_those_of_the_plan_and_plans_are_kept_apart() -> None:
    acme = await contract(unit="ELEMENT", included_units=10)
    await called(acme, elements=7)
    publisher = factories.principal(acme.publisher)
    own = await admit(publisher, version_id=acme.version.pk, most_seconds=1)
    await settle(own.hold_id, latency_ms=1)

    assert set(await counted()) == {(acme.plan.pk, 1, 7, 0), (None, 1, 1, 0)}


async def test_calls_that_failed_or_still_run_are_not_counted() -> None:
    acme = await contract()
    await acme.admit()
    assert await counted() == []


async def test_a_charge_refunded_before_it_was_counted_leaves_nothing() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await refunded(await called(acme))
    assert await counted() == [(acme.plan.pk, 0, 0, 0)]


async def test_a_charge_refunded_after_it_was_counted_is_taken_off() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    hold = await called(acme)
    await called(acme)
    await counted()
    await refunded(hold)
    assert await counted() == [(acme.plan.pk, 1, 1, QUARTER)]


async def test_a_charge_counted_up_to_between_itself_and_its_refund_is_counted_with_its_own_time() -> None:
    """The hold has finished a second time by then, later than the count reaches."""
    acme = await contract(included_units=0, overage_price=QUARTER)
    await counted()
    hold = await called(acme)
    charge = await LedgerEntry.objects.aget(hold=hold, account="publisher")
    await refunded(hold)

    def count_until(moment: Any) -> None:
        with connection.cursor() as cursor:
            usage._count(cursor, moment)

    await sync_to_async(count_until)(charge.created_at + timedelta(microseconds=1))
    assert [row async for row in DailyUsage.objects.values_list("calls", "amount")] == [(1, QUARTER)]
    assert await counted() == [(acme.plan.pk, 0, 0, 0)]


async def test_a_charge_that_commits_after_a_later_one_was_counted_is_counted_too() -> None:
    acme = await contract()
    publisher = factories.principal(acme.publisher)
    slow, quick = [(await admit(publisher, version_id=acme.version.pk, most_seconds=1)).hold_id for _ in range(2)]

    def settled_and_not_committed() -> None:
        with another_session() as other, other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(SETTLE, [[slow], [1.0], [None], [None], [None], 60])
            settle_at_once(quick)
            assert usage.count()
            cursor.execute("COMMIT")

    await sync_to_async(settled_and_not_committed)()
    assert await counted() == [(None, 2, 2, 0)]


def settle_at_once(hold: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SETTLE, [[hold], [1.0], [None], [None], [None], 60])


@contextmanager
def another_session() -> Iterator[BaseDatabaseWrapper]:
    session = connection.copy()
    try:
        yield session
    finally:
        session.close()


async def test_two_counts_at_once_are_one() -> None:
    def count_beside_another() -> None:
        with another_session() as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [usage.ADVISORY_LOCK])
            assert usage.count() is False
            cursor.execute("SELECT pg_advisory_unlock(%s)", [usage.ADVISORY_LOCK])
        assert usage.count() is True

    await sync_to_async(count_beside_another)()


async def test_figures_that_are_not_the_ledgers_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await called(acme)
    await counted()
    await sync_to_async(call_command)("check_usage")
    assert "The figures are the ledger's" in capsys.readouterr().out

    await DailyUsage.objects.aupdate(calls=2)
    with pytest.raises(SystemExit):
        await sync_to_async(call_command)("check_usage")
    assert "add acme: the ledger has 1 calls" in capsys.readouterr().out
