"""The ledger's checker: silent about a marketplace that was metered, and naming whatever was tampered with."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
import uuid_utils.compat as uuid
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from marketplace.access import TenantRole
from marketplace.metering import connections, ledger, tasks
from marketplace.metering.admission import admit, release, settle
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.metering.pace import Pace
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

ONE = Decimal(1)


class Metered:
    """acme's calls of openlab/add, past what its plan includes: settled twice, released once, one under way; and one of
    openlab's own."""

    def __init__(self) -> None:
        self.publisher = factories.tenant("openlab", is_publisher=True)
        self.consumer = factories.tenant("acme")
        self.version = factories.version(factories.model(self.publisher, "add"))
        plan = factories.plan(self.version.model, included_units=1, overage_price=Decimal("0.25"))
        factories.subscription(self.consumer, plan)
        async_to_sync(self._call)()
        self.quota = Quota.objects.get()

    async def _call(self) -> None:
        try:
            self.charged = [await self._admit(self.consumer) for _ in range(2)]
            self.released = await self._admit(self.consumer)
            self.under_way = await self._admit(self.consumer)
            self.own = await self._admit(self.publisher)
            for hold in (*self.charged, self.own):
                assert await settle(hold, latency_ms=1)
            assert await release(self.released, because="INFERENCE_FAILED")
        finally:
            await connections.close()

    async def _admit(self, tenant: Any) -> UUID:
        principal = factories.principal(tenant, TenantRole.DEVELOPER)
        return (await admit(principal, version_id=self.version.pk, most_seconds=10, lease=60)).hold_id


@pytest.fixture
def metered(transactional_db: None) -> Metered:
    return Metered()


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


@pytest.fixture
def unguarded(transactional_db: None) -> Iterator[None]:
    """Without the tables' triggers, checks and foreign keys, as their owner can have it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype IN ('c', 'f') "
            "AND conrelid IN ('metering_quota'::regclass, 'metering_hold'::regclass, 'metering_ledgerentry'::regclass)"
        )
        guards = cursor.fetchall()
    sql("ALTER TABLE metering_ledgerentry DISABLE TRIGGER USER")
    for table, name, _definition in guards:
        sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield
    sql("TRUNCATE metering_quota, metering_hold, metering_ledgerentry CASCADE")
    for table, name, definition in guards:
        sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    sql("ALTER TABLE metering_ledgerentry ENABLE TRIGGER USER")


def test_an_empty_marketplace_is_exact() -> None:
    assert ledger.check() == ledger.Report(0, 0, 0, 0, 0, 0, ())


def test_a_metered_marketplace_is_exact(metered: Metered) -> None:
    report = ledger.check()

    assert report.exact
    assert (report.quotas, report.holds, report.entries, report.violations) == (1, 5, 6, ())


def test_a_quota_that_nobody_has_used_is_exact(metered: Metered) -> None:
    quota = Quota.objects.get()
    Quota.objects.create(
        model_subscription=quota.model_subscription,
        period_start=quota.period_end,
        period_end=quota.period_end + timedelta(days=31),
        limit=1,
    )

    assert ledger.check().exact


def test_concurrent_calls_leave_it_exact(metered: Metered) -> None:
    async def calls() -> None:
        async def call(number: int) -> None:
            hold = await metered._admit(metered.consumer)
            await (settle(hold, latency_ms=1) if number % 3 else release(hold, because="CANCELLED"))

        try:
            await asyncio.gather(*(call(number) for number in range(30)))
        finally:
            await connections.close()

    async_to_sync(calls)()

    report = ledger.check()
    assert report.exact
    assert report.holds == 35


def test_calls_under_way_never_look_wrong(metered: Metered) -> None:
    """The checker sees one moment: a call that settles between two of its sums is in both or in neither."""

    async def calls_and_checks() -> list[ledger.Report]:
        async def call() -> None:
            for _ in range(10):
                await settle(await metered._admit(metered.consumer), latency_ms=1)

        async def check() -> list[ledger.Report]:
            return [await sync_to_async(ledger.check)() for _ in range(10)]

        try:
            reports, *_ = await asyncio.gather(check(), *(call() for _ in range(4)))
        finally:
            await connections.close()
        return reports

    assert [report.violations for report in async_to_sync(calls_and_checks)()] == [()] * 10
    assert ledger.check().holds == 45


def found(report: ledger.Report) -> set[str]:
    assert not report.exact
    return set(report.violations)


def test_a_quota_over_its_limit_is_named(metered: Metered, unguarded: None) -> None:
    Quota.objects.update(limit=2)

    assert found(ledger.check()) == {f"Quota {metered.quota.pk} is over: of 2 units 2 are settled and 1 held."}


def test_a_wrong_count_of_held_units_is_named(metered: Metered) -> None:
    Quota.objects.update(held=7)

    assert found(ledger.check()) == {f"Quota {metered.quota.pk} counts 7 units held, but its holds have 1."}


def test_a_wrong_count_of_settled_units_is_named(metered: Metered) -> None:
    Quota.objects.update(settled=Decimal("2.5"))

    quota = f"Quota {metered.quota.pk} counts 2.5 units settled"
    assert found(ledger.check()) == {
        f"{quota}, but its holds were charged 2.",
        f"{quota}, but the ledger took 2 for it.",
    }


def test_a_hold_charged_otherwise_than_the_ledger_says_is_named(metered: Metered) -> None:
    hold = metered.charged[0]
    Hold.objects.filter(pk=hold).update(charged=3)

    assert found(ledger.check()) == {
        f"Quota {metered.quota.pk} counts 2 units settled, but its holds were charged 4.",
        f"Hold {hold} was charged 3 units, but the ledger took 1 for it.",
    }


def test_a_publisher_s_own_call_charged_otherwise_than_the_ledger_says_is_named(metered: Metered) -> None:
    Hold.objects.filter(pk=metered.own).update(charged=3)

    assert found(ledger.check()) == {f"Hold {metered.own} was charged 3 units, but the ledger took 1 for it."}


@pytest.mark.parametrize(
    ("change", "sums"),
    [({"units": 2}, "1 units and an amount of 0"), ({"amount": Decimal("0.3")}, "0 units and an amount of 0.05")],
)
def test_entries_that_do_not_cancel_out_are_named(
    metered: Metered, unguarded: None, change: dict[str, Any], sums: str
) -> None:
    hold = metered.charged[1]
    LedgerEntry.objects.filter(hold=hold, account="publisher").update(**change)

    assert found(ledger.check()) == {
        f"Hold {hold} has entries that do not cancel out in one currency: they sum to {sums}."
    }


def test_entries_in_two_currencies_are_named(metered: Metered, unguarded: None) -> None:
    hold = metered.charged[1]
    LedgerEntry.objects.filter(hold=hold, account="publisher").update(currency="EUR")

    (violation,) = found(ledger.check())
    assert violation.startswith(f"Hold {hold} has entries that do not cancel out in one currency")


def test_a_settled_hold_without_entries_is_named(metered: Metered, unguarded: None) -> None:
    hold = metered.charged[0]
    LedgerEntry.objects.filter(hold=hold).delete()

    assert found(ledger.check()) == {
        f"Quota {metered.quota.pk} counts 2 units settled, but the ledger took 1 for it.",
        f"Hold {hold} is settled, but its entries (0) are not one for each of the two sides.",
    }


def test_a_settled_hold_with_one_entry_is_named(metered: Metered, unguarded: None) -> None:
    hold = metered.charged[0]
    LedgerEntry.objects.filter(hold=hold, account="publisher").delete()

    assert found(ledger.check()) == {
        f"Hold {hold} is settled, but its entries (1) are not one for each of the two sides.",
        f"Hold {hold} has entries that do not cancel out in one currency: they sum to -1 units and an amount of 0.",
    }


def test_entries_of_two_consumers_are_named(metered: Metered, unguarded: None) -> None:
    hold = metered.charged[0]
    LedgerEntry.objects.filter(hold=hold, account="publisher").update(account="somebody")

    assert found(ledger.check()) == {
        f"Hold {hold} is settled, but its entries (2) are not one for each of the two sides."
    }


@pytest.mark.parametrize("state", ["released", "held"])
def test_entries_of_a_hold_that_was_not_settled_are_named(metered: Metered, state: str) -> None:
    hold = metered.released if state == "released" else metered.under_way
    for account, units in (("consumer", -1), ("publisher", 1)):
        LedgerEntry.objects.create(
            hold_id=hold,
            kind="charge",
            account=account,
            tenant=metered.consumer,
            units=units,
            amount=0,
            currency="USD",
            created_at=timezone.now(),
        )

    assert f"Hold {hold} is {state}, but has entries (2) other than a charge and its refund." in found(ledger.check())


def test_a_settled_hold_that_is_set_back_is_named(metered: Metered) -> None:
    hold = metered.charged[0]
    Hold.objects.filter(pk=hold).update(state="held")

    assert found(ledger.check()) == {
        f"Quota {metered.quota.pk} counts 1 units held, but its holds have 2.",
        f"Quota {metered.quota.pk} counts 2 units settled, but its holds were charged 1.",
        f"Quota {metered.quota.pk} counts 1 calls under way, but has 2 open holds.",
        f"Hold {hold} is held, but has entries (2) other than a charge and its refund.",
    }


@pytest.mark.parametrize(("age", "exact"), [(ledger.GRACE_SECONDS - 30, True), (ledger.GRACE_SECONDS + 30, False)])
def test_a_hold_is_named_that_nobody_gave_back_in_time(metered: Metered, age: int, exact: bool) -> None:
    Hold.objects.filter(pk=metered.under_way).update(expires_at=timezone.now() - timedelta(seconds=age))

    report = ledger.check()

    assert report.exact == exact
    if not exact:
        (violation,) = report.violations
        assert violation.startswith(f"Hold {metered.under_way} expired at ")
        assert violation.endswith(" and is still held.")


def test_entries_and_quotas_that_belong_to_nothing_are_named(metered: Metered, unguarded: None) -> None:
    nobody, nothing = uuid.uuid7(), metered.quota.pk + 1
    LedgerEntry.objects.filter(hold=metered.own).update(hold_id=nobody)
    Hold.objects.filter(pk=metered.under_way).update(quota_id=nothing)

    assert found(ledger.check()) == {
        f"Quota {nothing} does not exist, and holds name it.",
        f"Quota {metered.quota.pk} counts 1 units held, but its holds have 0.",
        f"Quota {metered.quota.pk} counts 1 calls under way, but has 0 open holds.",
        f"Hold {nobody} does not exist, and has entries: 2.",
        f"Hold {metered.own} is settled, but its entries (0) are not one for each of the two sides.",
    }


def test_many_violations_are_counted_and_the_first_of_them_named(metered: Metered) -> None:
    for _ in range(ledger.MOST_NAMED + 5):
        factories.hold(metered.consumer, metered.version)

    report = ledger.check()

    assert report.faulty_holds == ledger.MOST_NAMED + 5
    assert len(report.violations) == ledger.MOST_NAMED


def test_the_command_says_that_all_is_well(metered: Metered) -> None:
    output = StringIO()

    call_command("check_ledger", stdout=output)

    assert output.getvalue() == "The ledger is exact: 1 quotas, 5 holds, 6 entries agree.\n"


def test_the_command_names_what_is_wrong_and_fails(metered: Metered) -> None:
    Quota.objects.update(held=7)
    output = StringIO()

    with pytest.raises(SystemExit) as ending:
        call_command("check_ledger", stdout=output)

    assert ending.value.code == 1
    assert output.getvalue().splitlines() == [
        f"Quota {metered.quota.pk} counts 7 units held, but its holds have 1.",
        "THE LEDGER IS NOT EXACT: 1 of 1 quotas and 0 of 5 holds are wrong, and 0 months of budgets (6 entries read).",
    ]


@pytest.fixture
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "pace", Pace())
    monkeypatch.setattr(Pace, "REST", 0)


@pytest.mark.usefixtures("_no_rest")
def test_the_worker_logs_an_error_for_what_is_wrong_and_nothing_otherwise(
    metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.check_ledger()
    assert not caplog.records

    Quota.objects.update(held=7)
    tasks.check_ledger()
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.ERROR, tasks.__name__)] * 2


def test_a_check_rests_for_many_times_as_long_as_it_took(
    metered: Metered, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "pace", Pace())
    monkeypatch.setattr(Pace, "REST", 10**9)
    Quota.objects.update(held=7)
    tasks.check_ledger()
    tasks.check_ledger()
    assert len(caplog.records) == 2


@pytest.mark.usefixtures("_no_rest")
def test_one_check_of_the_worker_runs_at_a_time(metered: Metered, caplog: pytest.LogCaptureFixture) -> None:
    Quota.objects.update(held=7)
    elsewhere = connection.copy()
    with elsewhere.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [tasks.ADVISORY_LOCK])
        tasks.check_ledger()
        assert not caplog.records
        cursor.execute("SELECT pg_advisory_unlock(%s)", [tasks.ADVISORY_LOCK])
    elsewhere.close()

    tasks.check_ledger()
    tasks.check_ledger()
    assert len(caplog.records) == 4


def test_the_ledger_refuses_to_be_emptied(metered: Metered) -> None:
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        sql("SET LOCAL marketplace.allow_truncate = off")
        sql("TRUNCATE metering_ledgerentry")

    assert LedgerEntry.objects.count() == 6
