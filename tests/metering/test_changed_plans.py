"""A plan whose terms change: a period keeps those that it began with, to the unit and to the cent."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from time import sleep
from typing import Any
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.utils import timezone
from psycopg import sql
from psycopg.conninfo import make_conninfo
from uuid_utils.compat import uuid7

from marketplace.access import Principal
from marketplace.errors import NotFound, QuotaExceeded
from marketplace.metering import connections, ledger, tasks
from marketplace.metering.admission import ADMIT, admit, settle
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.publishing import plans
from marketplace.subscriptions import actions
from marketplace.subscriptions.models import ModelSubscription, Plan
from tests import factories

from .contract import Contract, contract
from .test_crowds import ends_in

pytestmark = pytest.mark.django_db(transaction=True)

QUARTER, HALF = Decimal("0.25"), Decimal("0.5")


def publisher(acme: Contract) -> Principal:
    return factories.principal(acme.publisher)


async def changed(acme: Contract, plan: Plan | None = None, **terms: Any) -> Plan:
    return await sync_to_async(plans.update_plan)(publisher(acme), plan_id=(plan or acme.plan).pk, **terms)


async def a_month_passes() -> None:
    """Seen from the contract: all that it has lies a month further back, and so do the changes of its plan."""

    def shift() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE subscriptions_modelsubscription SET created_at = created_at - interval '1 month'")
            cursor.execute("UPDATE subscriptions_plan SET successor_from = successor_from - interval '1 month'")
            cursor.execute(
                "UPDATE metering_quota SET period_start = period_start - interval '1 month', "
                "period_end = period_end - interval '1 month'"
            )

    await sync_to_async(shift)()


async def exact() -> bool:
    return (await sync_to_async(ledger.check)()).exact


async def called(acme: Contract) -> None:
    assert await settle(await acme.admit(), latency_ms=1) is not None


async def bill() -> list[Decimal]:
    return [entry.amount async for entry in LedgerEntry.objects.filter(account="publisher").order_by("id")]


async def test_a_period_keeps_the_terms_that_it_began_with_and_the_next_one_has_the_changed_ones() -> None:
    acme = await contract(included_units=1, overage_price=QUARTER)
    await called(acme)
    await changed(acme, included_units=Decimal(0), overage_price=HALF)

    await called(acme)
    await a_month_passes()
    await called(acme)

    assert await bill() == [0, QUARTER, HALF]
    assert await exact()


async def test_a_period_in_which_nobody_called_before_the_change_keeps_its_terms_too() -> None:
    acme = await contract(included_units=1)
    await changed(acme, included_units=Decimal(2))

    await called(acme)
    with pytest.raises(QuotaExceeded):
        await acme.admit()
    await a_month_passes()
    await a_month_passes()
    await called(acme)
    await called(acme)
    with pytest.raises(QuotaExceeded):
        await acme.admit()

    assert [quota.limit async for quota in Quota.objects.order_by("period_start")] == [1, 2]


async def test_who_subscribes_after_the_change_has_its_terms_at_once() -> None:
    acme = await contract(included_units=1)
    later = await changed(acme, included_units=Decimal(0), overage_price=HALF)
    globex = factories.principal(await sync_to_async(factories.tenant)("globex"))

    await sync_to_async(actions.subscribe)(globex, model_ref="openlab/add", plan_id=later.pk)
    admission = await admit(globex, version_id=acme.version.pk, most_seconds=10)
    await settle(admission.hold_id, latency_ms=1)

    assert await bill() == [HALF]


async def test_the_next_period_may_count_another_unit_in_another_currency() -> None:
    acme = await contract(included_units=3)
    await called(acme)
    await changed(acme, unit="ELEMENT", included_units=Decimal(0), overage_price=QUARTER, currency="EUR")

    await acme.admit(elements=8)
    await a_month_passes()
    hold = await acme.admit(elements=8)
    await settle(hold, latency_ms=1)

    assert [(each.unit, each.units) async for each in Hold.objects.order_by("id")] == [
        *[("CALL", 1)] * 2,
        ("ELEMENT", 8),
    ]
    entry = await LedgerEntry.objects.aget(hold=hold, account="publisher")
    assert (entry.amount, entry.currency) == (2, "EUR")
    assert await exact()


async def test_of_several_changes_a_period_has_the_last_one_before_it_began() -> None:
    acme = await contract(included_units=1)
    second = await changed(acme, included_units=Decimal(2))
    await a_month_passes()
    await changed(acme, second, included_units=Decimal(3))

    await acme.admit()
    await a_month_passes()
    await acme.admit()

    assert [quota.limit async for quota in Quota.objects.order_by("period_start")] == [2, 3]


async def test_a_change_that_was_taken_back_in_time_changes_nothing() -> None:
    acme = await contract(included_units=1, overage_price=QUARTER)
    dear = await changed(acme, overage_price=HALF)
    await sync_to_async(plans.take_back_plan)(publisher(acme), plan_id=dear.pk)

    for _month in range(3):
        await called(acme)
        await called(acme)
        await a_month_passes()

    assert await bill() == [0, QUARTER] * 3


async def test_a_change_of_plan_by_the_tenant_holds_from_its_next_call_on_whatever_was_announced() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    other = await sync_to_async(factories.plan)(acme.version.model, included_units=0, overage_price=Decimal(1))
    await called(acme)
    await changed(acme, overage_price=HALF)

    await sync_to_async(actions.subscribe)(
        factories.principal(acme.consumer), model_ref="openlab/add", plan_id=other.pk
    )
    await called(acme)
    await a_month_passes()
    await called(acme)

    assert await bill() == [QUARTER, 1, 1]


async def test_a_call_under_way_as_the_period_ends_is_charged_on_the_terms_it_was_admitted_on() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    hold = await acme.admit()
    await changed(acme, overage_price=HALF)

    await a_month_passes()
    await called(acme)
    await settle(hold, latency_ms=1)

    assert await bill() == [HALF, QUARTER]
    assert [quota.settled async for quota in Quota.objects.order_by("period_start")] == [1, 1]
    assert await exact()


async def test_a_call_that_is_being_admitted_as_the_period_ends_has_the_terms_of_the_period_it_is_counted_in() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await called(acme)
    await changed(acme, overage_price=HALF, unit="ELEMENT")
    await a_month_passes()
    before = await Quota.objects.aget()
    await called(acme)

    late = await sync_to_async(admitted_late)(acme, before.period_end)
    await settle(late, latency_ms=1)

    hold = await Hold.objects.aget(pk=late)
    assert (hold.quota_id, hold.unit, hold.plan_id, hold.created_at > before.period_end) == (
        *(before.pk, "CALL", acme.plan.pk),
        True,
    )
    assert await bill() == [QUARTER, HALF, QUARTER]
    assert await exact()


def admitted_late(acme: Contract, turn: datetime) -> UUID:
    """Admitted by a clock that goes past `turn` after the period's quota was chosen, and before all else."""
    hold = uuid7()
    question = (hold, acme.consumer.pk, None, None, acme.version.pk, 8, 10, None, None, 60.0, None, None, None)
    with psycopg.connect(make_conninfo(**connections._parameters())) as db:
        db.execute("CREATE SCHEMA late")
        db.execute("CREATE SEQUENCE late.looks")
        db.execute(
            sql.SQL(
                "CREATE FUNCTION late.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ "
                "SELECT CASE WHEN nextval('late.looks') <= 2 THEN {} ELSE pg_catalog.clock_timestamp() END $$"
            ).format(turn - timedelta(microseconds=1))
        )
        db.execute("SET LOCAL search_path = late, public, pg_catalog")
        row = db.execute(ADMIT, [[value] for value in question]).fetchone()
        assert row is not None
        assert row[0] == "admitted"
        db.execute("DROP SCHEMA late CASCADE")
    return hold


async def test_what_is_shown_of_the_contract_catches_up_once_no_admission_can_need_it() -> None:
    acme = await contract(included_units=1)
    later = await changed(acme, included_units=Decimal(2))
    assert await sync_to_async(tasks.move_contracts)() == 0

    # Its period has begun just now: a call may still be on its way into the one before.
    await sync_to_async(ends_in)(acme, -30)
    await Plan.objects.filter(pk=acme.plan.pk).aupdate(successor_from=timezone.now() - timedelta(minutes=5))
    assert await sync_to_async(tasks.move_contracts)() == 0

    await sync_to_async(ends_in)(acme, -90)
    assert await sync_to_async(tasks.move_contracts)() == 1
    assert (await ModelSubscription.objects.aget()).plan_id == later.pk
    assert await sync_to_async(tasks.move_contracts)() == 0


def test_who_subscribes_as_the_plan_changes_is_not_held_to_terms_that_it_has_not_seen() -> None:
    """The change commits while the subscription waits for it."""
    acme = Contract(included_units=1)
    globex = factories.principal(factories.tenant("globex"))

    def subscribe() -> object:
        try:
            return actions.subscribe(globex, model_ref="openlab/add", plan_id=acme.plan.pk)
        except NotFound as error:
            return error.path
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as others:
        with transaction.atomic():
            later = plans.update_plan(publisher(acme), plan_id=acme.plan.pk, included_units=Decimal(2))
            subscribed = others.submit(subscribe)
            until_somebody_waits()
        assert subscribed.result() == "input.plan"

    assert actions.subscribe(globex, model_ref="openlab/add", plan_id=later.pk).plan == later


def until_somebody_waits() -> None:
    """For a lock of ours."""
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))")
            if cursor.fetchone()[0]:
                return
            sleep(0.01)
