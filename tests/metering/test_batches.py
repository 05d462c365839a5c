"""Many callers, one round trip: each is answered as if it were alone, and none can spoil it for the others."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
import uuid_utils.compat as uuid
from asgiref.sync import sync_to_async
from django.utils import timezone

from marketplace.access import Principal, TenantRole
from marketplace.errors import (
    IdempotencyConflict,
    ModelUnavailable,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
)
from marketplace.metering import batches, connections
from marketplace.metering.admission import ADMIT, NO_HINT, admit, idle, release, settle
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.tenants.models import ApiKey, Membership, User
from tests import factories
from tests.proxy import Proxy

from .contract import ONE, contract
from .proxy import under_way

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("patient")]


def queued(*calls: Coroutine[Any, Any, Any]) -> "list[asyncio.Task[Any]]":
    return [asyncio.ensure_future(call) for call in calls]


async def outcomes(tasks: "list[asyncio.Task[Any]]") -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_those_who_wait_are_answered_together(proxy: Proxy) -> None:
    acme = await contract(included_units=100)
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(*(acme.admit() for _ in range(30)))
    await asyncio.sleep(0)

    proxy.resume()
    holds = await asyncio.gather(first, *waiting)

    moments = [hold.created_at async for hold in Hold.objects.filter(pk__in=holds)]
    assert len(set(holds)) == 31
    assert len(set(moments)) == 2
    assert (await acme.quota()).held == 32


async def test_in_one_batch_units_go_to_those_who_came_first(proxy: Proxy) -> None:
    acme = await contract(included_units=5)
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(*(acme.admit() for _ in range(6)))
    await asyncio.sleep(0)

    proxy.resume()
    await first
    answers = await outcomes(waiting)

    assert [isinstance(answer, UUID) for answer in answers] == [True, True, True, False, False, False]
    assert {type(answer) for answer in answers[3:]} == {QuotaExceeded}
    assert {answer.remaining for answer in answers[3:]} == {0}


async def test_in_one_batch_the_rate_holds(proxy: Proxy) -> None:
    acme = await contract(requests_per_second=1, burst=4)
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(*(acme.admit() for _ in range(5)))
    await asyncio.sleep(0)

    proxy.resume()
    await first
    answers = await outcomes(waiting)

    assert [type(answer) for answer in answers] == [UUID, UUID, RateLimited, RateLimited, RateLimited]


async def test_in_one_batch_an_idempotency_key_runs_once(proxy: Proxy) -> None:
    acme = await contract()
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(
        acme.admit(idempotency_key="a", digest=b"1"),
        acme.admit(idempotency_key="b", digest=b"1"),
        acme.admit(idempotency_key="a", digest=b"1"),
        acme.admit(idempotency_key="b", digest=b"2"),
    )
    await asyncio.sleep(0)

    proxy.resume()
    await first
    answers = await outcomes(waiting)

    assert [type(answer) for answer in answers] == [UUID, UUID, ModelUnavailable, IdempotencyConflict]
    assert (await acme.quota()).held == 4


async def test_each_of_a_batch_of_overage_calls_is_priced_in_its_turn(proxy: Proxy) -> None:
    acme = await contract(included_units=2, overage_price=Decimal("0.25"))
    holds = [await acme.admit() for _ in range(5)]
    first = await under_way(proxy, settle(holds[0], latency_ms=1))
    waiting = queued(*(settle(hold, latency_ms=1) for hold in holds[1:]))
    await asyncio.sleep(0)

    proxy.resume()
    assert await asyncio.gather(first, *waiting) == [ONE] * 5

    entries = LedgerEntry.objects.filter(account="publisher").order_by("id")
    assert [entry.amount async for entry in entries] == [0, 0, *[Decimal("0.25")] * 3]
    assert [(await acme.quota()).held, (await acme.quota()).settled] == [0, 5]


async def test_a_bad_row_fails_alone(proxy: Proxy) -> None:
    acme = await contract()
    pat = Principal(tenant_id=acme.publisher.pk, role=TenantRole.OWNER)
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    # More than its column can hold.
    bad = admit(pat, version_id=acme.version.pk, most_seconds=10, idempotency_key="x" * 300)
    waiting = queued(acme.admit(), bad, acme.admit())
    await asyncio.sleep(0)

    proxy.resume()
    await first
    answers = await outcomes(waiting)

    assert [type(answer) for answer in answers] == [UUID, psycopg.errors.StringDataRightTruncation, UUID]
    assert (await acme.quota()).held == 4


async def test_whoever_leaves_the_queue_was_never_there(proxy: Proxy) -> None:
    acme = await contract()
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    leaver, stayer = queued(acme.admit(), acme.admit())
    await asyncio.sleep(0)

    leaver.cancel()
    proxy.resume()
    answers = await outcomes([first, leaver, stayer])

    assert [type(answer) for answer in answers] == [UUID, asyncio.CancelledError, UUID]
    await idle()
    assert await Hold.objects.acount() == 3


async def test_whoever_leaves_while_being_admitted_leaves_nothing_held(proxy: Proxy) -> None:
    acme = await contract()
    await acme.admit()
    leaver = await under_way(proxy, acme.admit())

    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    proxy.resume()
    await idle()

    assert (await acme.quota()).held == 1
    assert (await Hold.objects.aget(state="released")).released_because == "CANCELLED"


async def test_whoever_leaves_just_when_the_answer_comes_leaves_nothing_held() -> None:
    acme = await contract(included_units=100)
    await acme.admit()
    lost = 0
    # One step of the event loop later each time, so that one of them falls between the answer and its arrival.
    for steps in range(40):
        call = asyncio.ensure_future(acme.admit())
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        lost += isinstance((await outcomes([call]))[0], asyncio.CancelledError)
        await idle()

    assert lost
    assert (await acme.quota()).held == await Hold.objects.filter(state="held").acount() == 41 - lost


async def test_a_cancelled_caller_cancels_nobody_else(proxy: Proxy) -> None:
    acme = await contract()
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(*(acme.admit() for _ in range(4)))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)

    proxy.resume()
    answers = await outcomes(waiting)
    await idle()

    assert [type(answer) for answer in answers] == [UUID] * 4
    assert (await acme.quota()).held == 5


async def test_a_quiet_tenant_is_in_the_next_batch_however_many_wait_before_it(proxy: Proxy) -> None:
    loud = await contract(included_units=1000)
    quiet = await sync_to_async(factories.tenant)("globex")
    await sync_to_async(factories.subscription)(quiet, loud.plan)
    someone = Principal(tenant_id=quiet.pk, role=TenantRole.DEVELOPER)
    await loud.admit()
    first = await under_way(proxy, loud.admit())
    crowd = queued(*(loud.admit() for _ in range(3 * batches.MOST_AT_ONCE)))
    (late,) = queued(admit(someone, version_id=loud.version.pk, most_seconds=10, lease=60))
    await asyncio.sleep(0)

    proxy.resume()
    await first
    await asyncio.wait([late, crowd[-1]], return_when=asyncio.FIRST_COMPLETED)

    assert late.done()
    assert not crowd[-1].done()
    holds = await asyncio.gather(*crowd)
    with_it = (await Hold.objects.aget(pk=(await late).hold_id)).created_at
    assert with_it == (await Hold.objects.aget(pk=holds[0])).created_at


async def test_when_all_places_are_taken_the_tenant_with_most_of_them_gives_way(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = await contract()
    quiet = await sync_to_async(factories.tenant)("globex")
    await sync_to_async(factories.subscription)(quiet, loud.plan)
    someone = Principal(tenant_id=quiet.pk, role=TenantRole.DEVELOPER)
    await loud.admit()
    first = await under_way(proxy, loud.admit())
    monkeypatch.setattr(batches, "MOST_WAITING", 3)
    crowd = queued(*(loud.admit() for _ in range(3)))
    await asyncio.sleep(0)

    (one_more,) = queued(loud.admit())
    (late,) = queued(admit(someone, version_id=loud.version.pk, most_seconds=10, lease=60))
    await asyncio.sleep(0)
    proxy.resume()
    answers = await outcomes([first, *crowd, one_more, late])

    refused = [answer for answer in answers if isinstance(answer, ModelUnavailable)]
    assert answers[3] in refused
    assert answers[4] in refused
    assert len(refused) == 2
    assert all(refusal.retry_after_ms for refusal in refused)


async def test_a_lock_that_somebody_sits_on_keeps_only_its_own_tenant(proxy: Proxy) -> None:
    stuck = await contract()
    free = await sync_to_async(factories.tenant)("globex")
    await sync_to_async(factories.subscription)(free, stuck.plan)
    someone = Principal(tenant_id=free.pk, role=TenantRole.DEVELOPER)
    await stuck.admit()
    async with await psycopg.AsyncConnection.connect(**connections._parameters()) as sitting:
        await sitting.execute("SELECT FROM metering_quota FOR UPDATE")
        first = await under_way(proxy, admit(someone, version_id=stuck.version.pk, most_seconds=10, lease=60))
        waiting = queued(stuck.admit(), admit(someone, version_id=stuck.version.pk, most_seconds=10, lease=60))
        await asyncio.sleep(0)

        proxy.resume()
        await first
        answers = await outcomes(waiting)

    assert [type(answer).__name__ for answer in answers] == ["ModelUnavailable", "Admission"]


async def test_a_settle_whose_acknowledgement_is_lost_is_found_to_have_happened(proxy: Proxy) -> None:
    acme = await contract()
    settling = await under_way(proxy, settle(await acme.admit(), latency_ms=1))

    await proxy.cut()
    proxy.resume()

    assert await settling
    quota = await acme.quota()
    assert (quota.held, quota.settled) == (0, 1)
    assert await LedgerEntry.objects.acount() == 2


@pytest.mark.parametrize("change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
async def test_a_key_that_is_revoked_or_expired_admits_nothing_from_then_on(change: dict[str, Any]) -> None:
    acme = await contract()
    key = await sync_to_async(factories.api_key_row)(acme.consumer)
    acme.principal = replace(acme.principal, api_key_id=key.pk)
    await acme.admit()

    await ApiKey.objects.aupdate(**change)

    with pytest.raises(Unauthenticated):
        await acme.admit()


async def test_who_left_the_tenant_or_was_shut_out_is_admitted_to_nothing() -> None:
    acme = await contract()
    person = await sync_to_async(factories.member)(acme.consumer)
    acme.principal = replace(acme.principal, user_id=person.pk)
    await acme.admit()

    await User.objects.aupdate(is_active=False)
    with pytest.raises(PermissionDenied):
        await acme.admit()
    await User.objects.aupdate(is_active=True)
    await Membership.objects.all().adelete()
    with pytest.raises(PermissionDenied):
        await acme.admit()


async def test_a_version_that_was_retired_admits_nothing() -> None:
    acme = await contract()

    await type(acme.version).objects.aupdate(status="RETIRED")

    with pytest.raises(NotFound):
        await acme.admit()


async def test_one_key_at_two_processes_at_once_runs_once() -> None:
    acme = await contract(included_units=100)
    other = await sync_to_async(factories.version)(
        await sync_to_async(factories.model)(acme.publisher, "other"),
    )
    await sync_to_async(factories.subscription)(acme.consumer, await sync_to_async(factories.plan)(other.model))

    def arguments(version: UUID) -> list[Any]:
        hold = uuid.uuid7()
        questions = (hold, acme.consumer.pk, None, None, version, 1, 10, "a", b"1", 60.0, *NO_HINT)
        return [[question] for question in questions]

    # The two lock different quotas: only the key itself is between them.
    async with (
        await psycopg.AsyncConnection.connect(**connections._parameters()) as one,
        await psycopg.AsyncConnection.connect(**connections._parameters(), autocommit=True) as two,
    ):
        first = await (await one.execute(ADMIT, arguments(acme.version.pk))).fetchone()
        second = asyncio.ensure_future(two.execute(ADMIT, arguments(other.pk)))
        await waits_for_a_lock(two.info.backend_pid)
        await one.commit()
        late = await (await second).fetchone()

    assert first is not None
    assert late is not None
    assert (first[0], late[0], late[1]) == ("admitted", "in_progress", first[1])
    assert [quota.held async for quota in Quota.objects.order_by("-held")] == [1, 0]


async def waits_for_a_lock(pid: int) -> None:
    async with await psycopg.AsyncConnection.connect(**connections._parameters(), autocommit=True) as watching:
        while True:
            cursor = await watching.execute("SELECT cardinality(pg_blocking_pids(%s))", (pid,))
            row = await cursor.fetchone()
            if row and row[0]:
                return


async def test_a_release_gives_back_in_one_batch_what_was_held_by_many(proxy: Proxy) -> None:
    acme = await contract()
    holds = [await acme.admit() for _ in range(4)]
    first = await under_way(proxy, release(holds[0], because="INTERNAL"))
    waiting = queued(*(release(hold, because="INTERNAL") for hold in [*holds[1:], holds[1]]))
    await asyncio.sleep(0)

    proxy.resume()
    answers = await asyncio.gather(first, *waiting)

    assert answers == [True, True, True, True, False]
    assert (await acme.quota()).held == 0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([uuid.uuid7(), None], "uuid"),
        (["", " ", "NULL", "null", 'a"b', "a\\b", "{,}", "\\x41", "\u00e9\n\t", None], "text"),
        ([b"", b"\x00\xff", b'"\\', None], "bytea"),
        ([0, -1, 2**31 - 1, None], "int"),
        ([0.1, 1e-300, -2.5e300, None], "float8"),
        ([Decimal("1.50"), Decimal("1E+3"), None], "numeric"),
        ([TenantRole.DEVELOPER], "text"),
    ],
)
async def test_what_a_question_holds_arrives_as_it_was(values: list[Any], kind: str) -> None:
    async with connections.connection() as db:
        (literal,) = batches.arrays([(value,) for value in values])
        row = await (await db.execute(f"SELECT %s::{kind}[]", [literal])).fetchone()  # type: ignore[arg-type]

    assert row == (values,)
