"""Eight processes, 512 callers, one subscription: exact to the unit, whatever happens to it meanwhile."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

import pytest
from django.db import connection, transaction
from psycopg.conninfo import make_conninfo

from marketplace.metering import connections
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.subscriptions import actions as subscriptions
from marketplace.tenants import actions as tenants
from tests import factories

from .contract import Contract

pytestmark = pytest.mark.django_db(transaction=True)

PROCESSES = 8
CALLERS = 64


class Crowd:
    """Started once, for it takes a good while, and sent to one contract after the other."""

    def __init__(self) -> None:
        environment = os.environ | {"DATABASE_URL": make_conninfo(**connections._parameters())}
        command = [sys.executable, "-m", "tests.metering.callers"]
        self.processes = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        assert self.hear() == ["ready"] * PROCESSES

    def tell(self, words: str) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{words}\n")
            process.stdin.flush()

    def hear(self) -> list[str]:
        """A line from each."""
        lines = []
        for process in self.processes:
            assert process.stdout is not None
            # A guard, not a measure: nobody is this slow who is not stuck.
            assert select.select([process.stdout], [], [], 120)[0], "one of the processes says nothing any more"
            lines.append(process.stdout.readline().strip())
        return lines

    def starts(self, contract: Contract, key: UUID | None = None) -> None:
        self.tell(f"{contract.consumer.pk} {contract.version.pk} {key or '-'} {CALLERS}")
        assert self.hear() == ["under way"] * PROCESSES

    def ends(self) -> int:
        """How many calls were charged in all, once everybody has been refused for good."""
        self.tell("changed")
        return sum(map(int, self.hear()))

    def leaves(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def crowd(django_db_setup: None) -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.leaves()


def contract(**plan: Any) -> Contract:
    return Contract(**{"requests_per_second": 1_000_000, "burst": 1_000_000} | plan)


class Change:
    """`with Change(acme) as change`, behind the lock of its quota: whoever is being admitted waits, and hears of it."""

    def __init__(self, acme: Contract) -> None:
        self.acme = acme

    def __enter__(self) -> Self:
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        quota = Quota.objects.select_for_update().get(model_subscription=self.acme.subscription)
        self.used = quota.settled + quota.held
        self.released = released()
        return self

    def __exit__(self, *error: Any) -> None:
        self.transaction.__exit__(*error)

    def kept(self) -> Decimal:
        """The units used or held when it committed, less those of callers who, on a slow machine, lost patience."""
        return self.used - (released() - self.released)


def released() -> int:
    return Hold.objects.filter(state="released").count()


def charged_exactly(units: Decimal | int) -> None:
    """The quotas, the holds and the ledger say so, and nothing is held."""
    quotas = Quota.objects.all()
    assert sum(quota.settled for quota in quotas) == units
    assert {quota.held for quota in quotas} == {0}
    assert Hold.objects.filter(state="settled").count() == units
    assert sum(LedgerEntry.objects.filter(account="publisher").values_list("units", flat=True)) == units


def test_they_use_a_quota_up_to_its_last_unit_and_never_pass_it(crowd: Crowd) -> None:
    acme = contract(included_units=1500)

    crowd.starts(acme)
    charged = crowd.ends()

    assert charged == 1500
    charged_exactly(1500)


def test_when_the_period_ends_meanwhile_each_period_has_its_own_limit(crowd: Crowd) -> None:
    acme = contract(included_units=1500)
    turn = ends_in(acme, seconds=2)

    crowd.starts(acme)
    wait_until(turn)
    charged = crowd.ends()

    before, after = Quota.objects.order_by("period_start")
    assert before.period_end == after.period_start == turn
    assert before.settled > 0
    assert after.settled == 1500
    assert charged == before.settled + after.settled
    charged_exactly(charged)
    assert not Hold.objects.filter(quota=after, created_at__lt=turn).exists()


def ends_in(acme: Contract, seconds: float) -> datetime:
    """Dates the subscription back so that its current period ends then. Two months where a short one moves the day."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH candidates AS (
                SELECT turn, turn - make_interval(months => n) AS anniversary, n
                  FROM generate_series(1, 2) AS n, (SELECT clock_timestamp() + make_interval(secs => %s) AS turn) AS t)
            UPDATE subscriptions_modelsubscription s SET created_at = c.anniversary
              FROM (SELECT * FROM candidates WHERE anniversary + make_interval(months => n) = turn
                     ORDER BY n LIMIT 1) AS c
             WHERE s.id = %s RETURNING c.turn
            """,
            [seconds, acme.subscription.pk],
        )
        turn: datetime = cursor.fetchone()[0]
    return turn


def wait_until(moment: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep_until(%s)", [moment])


def test_when_the_plan_becomes_larger_meanwhile_all_of_the_larger_one_is_used(crowd: Crowd) -> None:
    acme = contract(included_units=1000)
    larger = factories.plan(acme.version.model, included_units=2500, requests_per_second=1_000_000, burst=1_000_000)

    crowd.starts(acme)
    with Change(acme):
        subscribe(acme, larger.pk)
    charged = crowd.ends()

    assert charged == 2500
    charged_exactly(2500)


def test_when_the_plan_becomes_smaller_meanwhile_nothing_more_is_admitted_past_it(crowd: Crowd) -> None:
    acme = contract(included_units=100_000)
    smaller = factories.plan(acme.version.model, included_units=600, requests_per_second=1_000_000, burst=1_000_000)

    crowd.starts(acme)
    with Change(acme) as change:
        subscribe(acme, smaller.pk)
    charged = crowd.ends()

    expected = max(Decimal(600), change.kept())
    assert charged == expected
    charged_exactly(expected)


def subscribe(acme: Contract, plan: UUID) -> None:
    owner = factories.principal(acme.consumer)
    subscriptions.subscribe(owner, model_ref=f"openlab/{acme.version.model.name}", plan_id=plan)


def test_when_the_subscription_is_cancelled_meanwhile_nothing_more_is_admitted(crowd: Crowd) -> None:
    acme = contract(included_units=100_000)

    crowd.starts(acme)
    with Change(acme) as change:
        subscriptions.cancel(factories.principal(acme.consumer), subscription_id=acme.subscription.pk)
    charged = crowd.ends()

    assert charged == change.kept()
    charged_exactly(charged)


def test_when_the_key_is_revoked_meanwhile_nothing_more_is_admitted(crowd: Crowd) -> None:
    acme = contract(included_units=100_000)
    key = factories.api_key_row(acme.consumer)

    crowd.starts(acme, key.pk)
    with Change(acme) as change:
        tenants.revoke_api_key(factories.principal(acme.consumer), api_key_id=key.pk)
    charged = crowd.ends()

    assert charged == change.kept()
    charged_exactly(charged)
