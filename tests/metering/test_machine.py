"""Whatever happens in whatever order, metering answers and counts as a plain sequential model does (model.py).

PostgreSQL is the real one, with one thing taken from it: on this test's connection clock_timestamp() and its like are
functions of the test's own, which say what time it is. So rates, expiry and the ends of months are exact, to the
microsecond.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from marketplace.access import TenantRole
from marketplace.catalog.models import MLModelGroupObjectPermission, ModelVersion, Visibility
from marketplace.errors import MarketplaceError
from marketplace.metering import ledger
from marketplace.metering.admission import ADMIT, ANSWER_SECONDS, RELEASE, SETTLE
from marketplace.metering.current import current_quota
from marketplace.metering.doubts import REFUND
from marketplace.metering.heartbeats import EXTEND
from marketplace.metering.models import Budget as BudgetRow
from marketplace.metering.models import Hold, LedgerEntry, Quota, Spending, StoredAnswer
from marketplace.subscriptions import actions, sharing
from marketplace.subscriptions.models import ModelSubscription
from marketplace.subscriptions.models import Plan as PlanRow
from marketplace.tenants.models import ApiKey, Membership
from tests import factories

from . import model
from .model import MOST_TOKENS, PUBLISHER, Answer, Budget, Call, Caller, Hint, Key, Marketplace, Plan, State

pytestmark = pytest.mark.django_db(transaction=True)

OPEN, PRIVATE = "open", "private"
CONSUMERS = ["acme", "globex"]
KEYS = {"acme-1": "acme", "acme-2": "acme", "globex-1": "globex"}
PERSON = "ann"
CALLERS = [
    Caller("acme"),
    Caller("acme", key="acme-1"),
    Caller("acme", key="acme-2"),
    Caller("globex"),
    Caller("globex", key="globex-1"),
    Caller("acme", person=PERSON),
    Caller(PUBLISHER),
    # Somebody else's key.
    Caller("globex", key="acme-1"),
]


EMPTIED = (PlanRow, ModelSubscription, Quota, Hold, LedgerEntry, StoredAnswer, BudgetRow, Spending)


def sql(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def value(statement: str, *parameters: Any) -> Any:
    return sql(statement, *parameters)[0][0]


class World:
    """The tables. Tenants, models and keys stay from one example to the next; what is metered does not."""

    def __init__(self) -> None:
        self.tenants = {
            name: factories.tenant(name, is_publisher=name == PUBLISHER) for name in (PUBLISHER, *CONSUMERS)
        }
        self.models = {
            OPEN: factories.model(self.tenants[PUBLISHER], OPEN),
            PRIVATE: factories.model(self.tenants[PUBLISHER], PRIVATE, visibility=Visibility.PRIVATE),
        }
        self.versions = {name: factories.version(row) for name, row in self.models.items()}
        self.keys = {name: factories.api_key_row(self.tenants[tenant]) for name, tenant in KEYS.items()}
        self.person = factories.member(self.tenants["acme"])
        self.plans: dict[Plan, PlanRow] = {}

    def begin(self, now: datetime) -> None:
        self.time(now)
        sql(f"TRUNCATE {', '.join(row._meta.db_table for row in EMPTIED)} RESTART IDENTITY CASCADE")
        self.plans = {}
        for name, tenant in KEYS.items():
            self.access(name, Key(tenant, TenantRole.DEVELOPER), "LIVE", True)
        MLModelGroupObjectPermission.objects.all().delete()

    def time(self, now: datetime) -> None:
        sql("SELECT set_config('clock.now', %s, false)", now.isoformat())

    def principal(self, tenant: str) -> Any:
        return factories.principal(self.tenants[tenant])

    def subscribe(self, tenant: str, name: str, plan: Plan, now: datetime) -> bool:
        if plan not in self.plans:
            self.plans[plan] = factories.plan(
                self.models[name],
                unit=plan.unit,
                included_units=plan.included,
                overage_price=plan.overage,
                requests_per_second=plan.rate,
                burst=plan.burst,
                max_concurrency=plan.concurrency,
                max_tokens_per_call=MOST_TOKENS if plan.unit == "TOKEN" else None,
                currency=plan.currency,
            )
        contracts = ModelSubscription.objects.filter(tenant=self.tenants[tenant], model=self.models[name])
        is_new = not contracts.exists()
        try:
            actions.subscribe(self.principal(tenant), model_ref=f"{PUBLISHER}/{name}", plan_id=self.plans[plan].pk)
        except MarketplaceError:
            return False
        if is_new:
            # Python's clock said another time.
            contracts.update(created_at=now)
        return True

    def cancel(self, tenant: str, name: str) -> None:
        contract = ModelSubscription.objects.get(tenant=self.tenants[tenant], model=self.models[name])
        actions.cancel(self.principal(tenant), subscription_id=contract.pk)

    def grant(self, tenant: str, name: str) -> None:
        sharing.grant(self.principal(PUBLISHER), model=self.models[name], tenant=self.tenants[tenant])

    def withdraw(self, tenant: str, name: str) -> None:
        sharing.withdraw(self.principal(PUBLISHER), model=self.models[name], tenant=self.tenants[tenant])

    def access(self, name: str, key: Key, version: str, is_member: bool) -> None:
        ApiKey.objects.filter(pk=self.keys[name].pk).update(
            role=key.role, expires_at=key.expires_at, revoked_at=timezone.now() if key.revoked else None
        )
        ModelVersion.objects.filter(pk=self.versions[OPEN].pk).update(status=version)
        if is_member:
            Membership.objects.get_or_create(tenant=self.tenants["acme"], user=self.person)
        else:
            Membership.objects.filter(user=self.person).delete()

    def budget(self, budget: Budget, amount: Decimal) -> None:
        BudgetRow.objects.update_or_create(
            tenant=self.tenants[budget.tenant],
            api_key=self.keys[budget.key] if budget.key else None,
            currency=budget.currency,
            defaults={"amount": amount},
        )

    def admit(self, calls: dict[int, Call]) -> list[Answer]:
        questions = [
            (
                UUID(int=number),
                self.tenants[call.caller.tenant].pk,
                self.keys[call.caller.key].pk if call.caller.key else None,
                self.person.pk if call.caller.person else None,
                self.versions[call.model].pk,
                call.elements,
                call.most_seconds,
                call.idempotency_key,
                call.digest,
                call.lease,
                *(call.hint or (None, None, None)),
            )
            for number, call in calls.items()
        ]
        answers = [
            Answer(outcome, hold.int, *terms)
            for outcome, hold, *terms in sql(ADMIT, *(list(column) for column in zip(*questions, strict=True)))
        ]
        # What was not granted has no units.
        return [
            answer if answer.outcome == "admitted" else answer._replace(unit=None, units=None) for answer in answers
        ]


def the_model(now: datetime) -> Marketplace:
    return Marketplace(
        now=now,
        keys={name: Key(tenant, TenantRole.DEVELOPER) for name, tenant in KEYS.items()},
        members={"acme": PERSON},
        versions={OPEN: "LIVE", PRIVATE: "LIVE"},
        private={PRIVATE},
    )


# Amounts that divide badly, vanish in rounding, or cost nothing.
PRICES = [Decimal(price) for price in ("0.25", "0.1", "0.333333333", "0.000000001", "0")]
amounts = st.sampled_from([Decimal(amount) for amount in ("0.5", "1000", "1", "0.3", "0", "0.000000002")])

metered = st.builds(
    Plan,
    unit=st.just("CALL"),
    included=st.sampled_from([Decimal(units) for units in ("0", "1", "2.5", "3", "20")]),
    overage=st.sampled_from([None, None, None, *PRICES]),
    # Out of the way.
    rate=st.just(1000),
    burst=st.just(1000),
    concurrency=st.none(),
    currency=st.sampled_from(["USD", "USD", "USD", "EUR"]),
)
limited = st.builds(
    Plan,
    unit=st.just("CALL"),
    included=st.just(Decimal(20)),
    overage=st.none(),
    rate=st.sampled_from([1000, 4, 1]),
    burst=st.sampled_from([1000, 1, 3]),
    concurrency=st.sampled_from([1, 3, None]),
    currency=st.just("USD"),
)
# One of each kind, in any order: two for each of the two models.
offers = st.tuples(
    metered,
    metered.map(lambda plan: plan._replace(unit="ELEMENT")),
    st.builds(lambda plan, unit: plan._replace(unit=unit), metered, st.sampled_from(["SECOND", "TOKEN"])),
    limited,
).flatmap(st.permutations)
PLANS = ["first plan", "second plan"]
models = st.sampled_from([OPEN, OPEN, PRIVATE])
hints = st.builds(
    Hint,
    st.none() | st.sampled_from([TenantRole.DEVELOPER, TenantRole.VIEWER]),
    st.sampled_from([f"{PUBLISHER}/{OPEN}", f"{PUBLISHER}/{PRIVATE}"]),
    st.none() | st.integers(1, 2),
)
calls = st.builds(
    Call,
    caller=st.sampled_from(CALLERS),
    model=models,
    elements=st.integers(0, 4),
    most_seconds=st.sampled_from([Decimal(seconds) for seconds in ("1", "10", "2.5", "0.001")]),
    idempotency_key=st.sampled_from([None, "a", "b"]),
    digest=st.sampled_from([b"this", b"this", b"other"]),
    lease=st.sampled_from([15, 3600]),
    hint=st.none() | st.none() | st.none() | hints,
)
# The n-th of the holds: those under way first, then what has ended.
nths = st.integers(0, 7)
latencies = st.sampled_from([1234.2, 0.0, 0.2, 999.1, 2500.0, 60000.0])
# The first instant of acme's next period, and the last one of this.
PERIOD_S_END, JUST_BEFORE = "until the period's end", "until just before the period's end"
waits = st.sampled_from(
    [
        *(timedelta(seconds=seconds) for seconds in (0.25, 1, 15, 7200)),
        PERIOD_S_END,
        JUST_BEFORE,
        timedelta(days=65, microseconds=1),
    ]
)
STARTS = [
    datetime(2031, 1, 31, 12, 30, 15, 123456, tzinfo=UTC),
    datetime(2031, 11, 30, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2032, 2, 29, tzinfo=UTC),
]


class Metering(RuleBasedStateMachine):
    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    @initialize(
        now=st.sampled_from(STARTS),
        offers=offers,
        cap=amounts,
    )
    def begin(self, now: datetime, offers: list[Plan], cap: Decimal) -> None:
        self.model = the_model(now)
        self.offers = {OPEN: offers[::2], PRIVATE: offers[1::2]}
        self.world.begin(now)
        self.budget(Caller("acme"), "USD", cap)
        for tenant in CONSUMERS:
            self.contract(tenant, PRIVATE, "grant")
            for name in (OPEN, PRIVATE):
                self.contract(tenant, name, PLANS[0])

    # Calls.

    @rule(calls=st.lists(calls, min_size=2, max_size=8))
    def admit_at_once(self, calls: list[Call]) -> None:
        self.admit(calls)

    @rule(call=calls, times=st.integers(2, 6))
    def admit_one_by_one(self, call: Call, times: int) -> None:
        """What wears a quota out."""
        for _ in range(times):
            self.admit([call._replace(idempotency_key=None, hint=None)])

    @precondition(lambda self: any(hold.call.idempotency_key for hold in self.model.holds.values()))
    @rule(n=nths, digest=st.sampled_from([b"this", b"other"]))
    def retry(self, n: int, digest: bytes) -> None:
        keyed = [hold.call for hold in self.model.holds.values() if hold.call.idempotency_key]
        self.admit([keyed[-1 - n % len(keyed)]._replace(digest=digest, hint=None)])

    @rule(call=calls, times=st.integers(2, 6), latency=latencies)
    def admit_many_and_settle_all(self, call: Call, times: int, latency: float) -> None:
        first = self.calls + 1
        self.admit([call._replace(idempotency_key=None, hint=None)] * times)
        self.settle([(hold, latency, None) for hold in range(first, first + times)])

    @rule(call=calls, times=st.integers(1, 3), latency=latencies, plan=st.none() | st.sampled_from(PLANS))
    def admit_on_both_sides_of_a_period_s_end(self, call: Call, times: int, latency: float, plan: str | None) -> None:
        """And settle both in the later one, perhaps after a change of plan."""
        first = self.calls + 1
        asked = [call._replace(caller=Caller("acme"), model=OPEN, idempotency_key=None, hint=None)] * times
        for by in (JUST_BEFORE, PERIOD_S_END):
            self.wait(by, False)
            self.admit(asked)
        if plan:
            self.contract("acme", OPEN, plan)
        self.settle([(hold, latency, None) for hold in range(first, first + 2 * times)])

    def admit(self, calls: list[Call]) -> None:
        asked = {self.calls + n: call for n, call in enumerate(calls, 1)}
        self.calls += len(calls)
        expected = [self.model.admit(number, call) for number, call in asked.items()]
        note(f"expected: {[f'{answer.outcome} {answer.hold}' for answer in expected]}")
        assert self.world.admit(asked) == expected

    def nth(self, n: int) -> int:
        holds = sorted(self.model.holds.values(), key=lambda hold: (not hold.is_open, hold.state is State.RELEASED))
        return holds[n % len(holds)].number

    def charged(self, n: int) -> int:
        holds = sorted(self.model.holds.values(), key=lambda hold: hold.state is not State.SETTLED)
        return holds[n % len(holds)].number

    @precondition(lambda self: self.model.holds)
    @rule(ends=st.lists(st.tuples(nths, latencies, st.none() | st.just(b"answer")), min_size=1, max_size=4))
    def settle_some(self, ends: list[tuple[int, float, bytes | None]]) -> None:
        self.settle([(self.nth(n), *how) for n, *how in ends])

    def settle(self, ends: list[Any]) -> None:
        """Of each: hold, latency, answer. It took as many tokens as milliseconds, begun ones included."""
        note(f"holds: {[hold for hold, _, _ in ends]}")
        holds, latencies, answers = zip(*ends, strict=True)
        tokens = [ceil(latency) for latency in latencies]
        expected = list(map(self.model.settle, holds, latencies, tokens, answers))
        assert expected == value(
            SETTLE,
            [UUID(int=hold) for hold in holds],
            list(latencies),
            tokens,
            list(answers),
            [None for _ in ends],
            ANSWER_SECONDS,
        )

    @precondition(lambda self: self.model.holds)
    @rule(ns=st.lists(nths, min_size=1, max_size=3))
    def release(self, ns: list[int]) -> None:
        holds = [self.nth(n) for n in ns]
        note(f"holds: {holds}")
        expected = [self.model.release(hold) for hold in holds]
        assert expected == value(RELEASE, [UUID(int=hold) for hold in holds], ["CANCELLED" for _ in holds])

    @precondition(lambda self: self.model.holds)
    @rule(ns=st.lists(nths, min_size=1, max_size=3))
    def refund(self, ns: list[int]) -> None:
        holds = [self.charged(n) for n in ns]
        note(f"holds: {holds}")
        expected = [self.model.refund(hold) for hold in holds]
        assert expected == value(REFUND, [UUID(int=hold) for hold in holds])

    @precondition(lambda self: self.model.holds)
    @rule(ns=st.lists(nths, min_size=1, max_size=3), lease=st.sampled_from([15, 3600]))
    def heartbeat(self, ns: list[int], lease: int) -> None:
        holds = [self.nth(n) for n in ns]
        note(f"holds: {holds}")
        expected = [self.model.extend(hold, lease) for hold in holds]
        assert expected == value(EXTEND, [UUID(int=hold) for hold in holds], lease)

    # Time.

    @rule(by=waits, expire=st.booleans())
    def wait(self, by: timedelta | str, expire: bool) -> None:
        if isinstance(by, str):
            end = self.model.period(self.model.contracts["acme", OPEN]).end
            by = end - self.model.now - timedelta(microseconds=by == JUST_BEFORE)
        self.model.now += by
        self.world.time(self.model.now)
        if expire:
            assert value("SELECT metering_release_expired(1000)") == self.model.expire()
        self.tenants_are_shown_what_is_so()

    # Terms.

    @rule(
        tenant=st.sampled_from(CONSUMERS),
        name=models,
        change=st.sampled_from([*PLANS, "cancel", "withdraw", "grant"]),
    )
    def contract(self, tenant: str, name: str, change: str) -> None:
        match change:
            case "cancel":
                self.model.cancel(tenant, name)
                self.world.cancel(tenant, name)
            case "withdraw":
                self.model.withdraw(tenant, PRIVATE)
                self.world.withdraw(tenant, PRIVATE)
            case "grant":
                self.model.grant(tenant, PRIVATE)
                self.world.grant(tenant, PRIVATE)
            case _:
                self.subscribe(tenant, name, self.offers[name][PLANS.index(change)])

    def subscribe(self, tenant: str, name: str, plan: Plan) -> None:
        expected = self.model.subscribe(tenant, name, plan)
        assert self.world.subscribe(tenant, name, plan, self.model.now) == expected

    @rule(
        caller=st.sampled_from(CALLERS[:5]),
        currency=st.sampled_from(["USD", "USD", "EUR"]),
        amount=amounts,
    )
    def budget(self, caller: Caller, currency: str, amount: Decimal) -> None:
        """Set, raised or lowered: of the caller's key, or of its tenant."""
        budget = Budget(caller.tenant, caller.key, currency)
        self.model.budgets[budget] = amount
        self.world.budget(budget, amount)

    @rule(
        name=st.sampled_from(list(KEYS)),
        key=st.sampled_from(["as before", "of another role", "about to expire", "revoked"]),
        version=st.sampled_from(["LIVE", "READY", "RETIRED"]),
        is_member=st.booleans(),
    )
    def access(self, name: str, key: str, version: str, is_member: bool) -> None:
        """To the open model, for who has this key, and for the person."""
        new = self.model.keys[name] = Key(KEYS[name], TenantRole.DEVELOPER)
        match key:
            case "of another role":
                new.role = TenantRole.VIEWER
            case "about to expire":
                new.expires_at = self.model.now + timedelta(seconds=1)
            case "revoked":
                new.revoked = True
        self.model.versions[OPEN] = version
        self.model.members = {"acme": PERSON} if is_member else {}
        self.world.access(name, new, version, is_member)

    # What is so after each step.

    @invariant()
    def the_model_has_it_so(self) -> None:
        self.calls_are_what_they_should_be()
        self.counters_are_sums()
        self.budgets_count_what_their_calls_cost()
        self.the_ledger_says_what_was_charged_and_its_entries_cancel_out()
        self.the_bill_is_the_overage_and_no_budget_counts_less()

    def calls_are_what_they_should_be(self) -> None:
        rows = sql(
            "SELECT h.id, state, units, charged, price, h.expires_at, period_start, period_end, content "
            "FROM metering_hold h LEFT JOIN metering_quota q ON q.id = quota_id "
            "LEFT JOIN metering_storedanswer ON hold_id = h.id ORDER BY h.id"
        )
        assert [(id.int, *facts[:-1], facts[-1] and bytes(facts[-1])) for id, *facts in rows] == [
            (
                hold.number,
                hold.state,
                hold.units,
                hold.charged,
                hold.price,
                hold.expires_at,
                *(hold.period or (None, None)),
                hold.answer,
            )
            for hold in self.model.holds.values()
        ]

    def counters_are_sums(self) -> None:
        rows = sql(
            "SELECT t.slug, m.name, period_start, period_end, unit_limit, settled, held, running FROM metering_quota q "
            "JOIN subscriptions_modelsubscription s ON s.id = model_subscription_id "
            "JOIN tenants_tenant t ON t.id = tenant_id JOIN catalog_mlmodel m ON m.id = s.model_id"
        )
        for tenant, name, start, end, limit, *counters in rows:
            contract, period = self.model.contracts[tenant, name], model.Period(start, end)
            assert tuple(counters) == self.model.counters(contract, period), (tenant, name, start)
            assert limit >= sum(counters[:2])
        counted = {(tenant, name, model.Period(start, end)) for tenant, name, start, end, *_ in rows}
        for hold in self.model.holds.values():
            assert hold.period is None or (hold.call.caller.tenant, hold.call.model, hold.period) in counted

    def tenants_are_shown_what_is_so(self) -> None:
        shown = ModelSubscription.objects.annotate(**current_quota()).values_list(
            "tenant__slug",
            "model__name",
            "quota_period_start",
            "quota_period_end",
            "quota_limit",
            "quota_settled",
            "quota_held",
        )
        for tenant, name, start, end, *units in shown:
            contract = self.model.contracts[tenant, name]
            period = self.model.period(contract)
            settled, held, _ = self.model.counters(contract, period)
            assert (start, end) == period
            assert units == [max(contract.plan.limit, settled + held), settled, held]

    def budgets_count_what_their_calls_cost(self) -> None:
        rows = sql(
            "SELECT t.slug, api_key_id, currency, period_start, settled, held FROM metering_spending s "
            "JOIN metering_budget b ON b.id = budget_id JOIN tenants_tenant t ON t.id = b.tenant_id"
        )
        keys: dict[UUID | None, str | None] = {None: None}
        keys |= {row.pk: name for name, row in self.world.keys.items()}
        counted = set()
        for tenant, key, currency, month, *spending in rows:
            budget = Budget(tenant, keys[key], currency)
            assert tuple(spending) == self.model.spending(budget, month), (budget, month)
            counted.add((budget, month))
        for hold in self.model.holds.values():
            assert all((budget, hold.month) in counted for budget in hold.budgets)

    def the_ledger_says_what_was_charged_and_its_entries_cancel_out(self) -> None:
        rows = sql(
            "SELECT hold_id, kind, account, t.slug, units, amount, currency FROM metering_ledgerentry e "
            "JOIN tenants_tenant t ON t.id = tenant_id"
        )
        assert {model.Entry(hold.int, *entry) for hold, *entry in rows} == set(self.model.entries)
        assert len(rows) == len(self.model.entries)
        assert sum(units for *_, units, _, _ in rows) == sum(amount for *_, amount, _ in rows) == 0

    def the_bill_is_the_overage_and_no_budget_counts_less(self) -> None:
        """As long as the plan stays: what is under way while it changes is priced by the order in which it ends."""
        for contract in self.model.contracts.values():
            calls = [hold for hold in self.model.holds.values() if hold.contract is contract]
            for period in {hold.period for hold in calls if hold.period}:
                of_period = {hold.number: hold for hold in calls if hold.period == period}
                plan, *others = {hold.plan for hold in of_period.values()}
                if plan and not others:
                    entries = [e for e in self.model.entries if e.hold in of_period and e.account == "publisher"]
                    bill = sum((entry.amount for entry in entries), Decimal(0))
                    # Each entry is rounded to a nano.
                    rounding = model.NANO * len(entries)
                    settled = [hold for hold in of_period.values() if hold.state is State.SETTLED]
                    units = sum((hold.charged for hold in settled), Decimal(0))
                    overage = model.quantized(plan.price(Decimal(0), units), model.NANO, model.nearest)
                    assert abs(bill - overage) <= rounding
                    assert sum(hold.price for hold in settled) >= bill - rounding

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.tenants_are_shown_what_is_so()
            report = ledger.check()
            overdue = any(
                hold.is_open and hold.expires_at < self.model.now - timedelta(seconds=ledger.GRACE_SECONDS)
                for hold in self.model.holds.values()
            )
            assert report.exact or overdue, report.violations


@pytest.fixture
def world(transactional_db: None) -> Iterator[World]:
    row = World()
    # pg_catalog comes first unless a search path says otherwise.
    sql("DROP SCHEMA IF EXISTS clock CASCADE")
    sql("CREATE SCHEMA clock")
    for name in ("clock_timestamp", "statement_timestamp", "now"):
        sql(
            f"CREATE FUNCTION clock.{name}() RETURNS timestamptz LANGUAGE sql "
            "AS $$ SELECT current_setting('clock.now')::timestamptz $$"
        )
    sql("SET search_path = clock, public, pg_catalog")
    # Nothing here is about crashes.
    sql("SET synchronous_commit = off")
    yield row
    sql("RESET search_path")
    sql("RESET synchronous_commit")
    sql("DROP SCHEMA clock CASCADE")


def test_metering_does_what_the_model_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    Metering.world = world
    # Sooner than pytest gives up on a test that seems to hang.
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", 100)
    run_state_machine_as_test(
        Metering,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
