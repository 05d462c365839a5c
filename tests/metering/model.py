"""Metering as docs/metering.md and the plans' terms describe it: plain, sequential, and nothing like the SQL.

It keeps no counters. What is used, held, running or spent is summed up from all calls whenever somebody asks, one call
is decided after another, and time is whatever `now` says.
"""

import calendar
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import NamedTuple

from marketplace.access import TenantRole

PUBLISHER = "openlab"
UNLIMITED = Decimal("1e15")
MILLI, MICRO, NANO = Decimal("0.001"), Decimal("0.000001"), Decimal("0.000000001")
# Of every plan by token, per call; and of what is counted afterwards, the least that there is to charge.
MOST_TOKENS = Decimal(3)
LEAST = {"SECOND": MILLI, "TOKEN": Decimal(1)}


class Plan(NamedTuple):
    unit: str
    included: Decimal
    overage: Decimal | None
    rate: int
    burst: int
    concurrency: int | None
    currency: str

    @property
    def limit(self) -> Decimal:
        return self.included if self.overage is None else UNLIMITED

    def price(self, used: Decimal, units: Decimal) -> Fraction:
        """What `units` after those that are `used` cost on top of the plan's price."""

        def overage(total: Decimal) -> Fraction:
            return max(Fraction(0), Fraction(total) - Fraction(self.included)) * Fraction(self.overage or 0)

        return overage(used + units) - overage(used)


class Caller(NamedTuple):
    tenant: str
    key: str | None = None
    person: str | None = None


class Hint(NamedTuple):
    role: TenantRole | None
    ref: str
    version: int | None


class Call(NamedTuple):
    caller: Caller
    model: str
    elements: int
    most_seconds: Decimal
    idempotency_key: str | None
    digest: bytes
    lease: int
    hint: Hint | None


class Answer(NamedTuple):
    outcome: str
    hold: int
    unit: str | None = None
    units: Decimal | None = None
    limit: Decimal | None = None
    remaining: Decimal | None = None
    currency: str | None = None
    resets_at: datetime | None = None
    retry_after_ms: int | None = None


class Period(NamedTuple):
    start: datetime
    end: datetime


class Budget(NamedTuple):
    """A spending cap, or with a key that key's budget. Its months are those of the calendar."""

    tenant: str
    key: str | None
    currency: str


class State(enum.StrEnum):
    HELD = "held"
    EXECUTING = "executing"
    SETTLED = "settled"
    RELEASED = "released"


class Entry(NamedTuple):
    hold: int
    kind: str
    account: str
    tenant: str
    units: Decimal
    amount: Decimal
    currency: str


@dataclass
class Contract:
    plan: Plan
    since: datetime
    status: str = "ACTIVE"
    # When a call would be due at exactly the plan's rate (GCRA).
    due: datetime | None = None


@dataclass
class Hold:
    number: int
    call: Call
    units: Decimal
    expires_at: datetime
    contract: Contract | None = None
    period: Period | None = None
    plan: Plan | None = None
    price: Decimal = Decimal(0)
    month: datetime | None = None
    budgets: tuple[Budget, ...] = ()
    state: State = State.HELD
    charged: Decimal = Decimal(0)
    answer: bytes | None = None

    @property
    def is_open(self) -> bool:
        return self.state in (State.HELD, State.EXECUTING)


@dataclass
class Key:
    tenant: str
    role: TenantRole
    revoked: bool = False
    expires_at: datetime | None = None


@dataclass
class Marketplace:
    now: datetime
    keys: dict[str, Key]
    # Of each tenant.
    members: dict[str, str]
    # Of each model, the status of its one version.
    versions: dict[str, str]
    private: set[str]
    granted: set[tuple[str, str]] = field(default_factory=set)
    contracts: dict[tuple[str, str], Contract] = field(default_factory=dict)
    budgets: dict[Budget, Decimal] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    # What is so, summed up.

    def period(self, contract: Contract) -> Period:
        months = 0
        while after(contract.since, months + 1) <= self.now:
            months += 1
        return Period(after(contract.since, months), after(contract.since, months + 1))

    def counters(self, contract: Contract, period: Period) -> tuple[Decimal, Decimal, int]:
        """Of one period: units settled, units held, calls under way."""
        calls = [hold for hold in self.holds.values() if hold.contract is contract and hold.period == period]
        under_way = [hold.units for hold in calls if hold.is_open]
        return sum((hold.charged for hold in calls), Decimal(0)), sum(under_way, Decimal(0)), len(under_way)

    def spending(self, budget: Budget, month: datetime) -> tuple[Decimal, Decimal]:
        """Of one month: money settled, money held."""
        calls = [hold for hold in self.holds.values() if budget in hold.budgets and hold.month == month]
        settled = [hold.price for hold in calls if hold.state is State.SETTLED]
        return sum(settled, Decimal(0)), sum((hold.price for hold in calls if hold.is_open), Decimal(0))

    def sees(self, tenant: str, model: str) -> bool:
        return tenant == PUBLISHER or model not in self.private or (tenant, model) in self.granted

    # What happens.

    def admit(self, number: int, call: Call) -> Answer:
        caller, version = call.caller, self.versions[call.model]
        key = self.keys[caller.key] if caller.key else None
        key_is_valid = key is None or (
            key.tenant == caller.tenant and not key.revoked and (key.expires_at is None or key.expires_at > self.now)
        )
        is_member = caller.person is None or self.members.get(caller.tenant) == caller.person
        is_callable = version in ("LIVE", "READY")
        if call.hint:
            is_as_hinted = (call.hint.role is None or (key is not None and key.role == call.hint.role)) and (
                call.hint.ref == f"{PUBLISHER}/{call.model}"
                and (version == "LIVE" if call.hint.version is None else call.hint.version == 1)
                and self.sees(caller.tenant, call.model)
            )
            if not (is_as_hinted and key_is_valid and is_member and is_callable):
                return Answer("moved", number)
        if not key_is_valid:
            return Answer("key_invalid", number)
        if not is_member:
            return Answer("not_a_member", number)
        for known in self.holds.values():
            if (
                call.idempotency_key is not None
                and (known.call.caller.tenant, known.call.idempotency_key) == (caller.tenant, call.idempotency_key)
                and known.state is not State.RELEASED
            ):
                if known.call.digest != call.digest:
                    return Answer("idempotency_conflict", known.number)
                return Answer("replay" if known.state is State.SETTLED else "in_progress", known.number)
        if not is_callable:
            return Answer("not_callable", number)
        expires_at = self.now + timedelta(seconds=call.lease)
        if caller.tenant == PUBLISHER:
            self.holds[number] = Hold(number, call, Decimal(1), expires_at)
            return Answer("admitted", number, "CALL", Decimal(1))
        return self._admit_on_contract(number, call, expires_at)

    def _admit_on_contract(self, number: int, call: Call, expires_at: datetime) -> Answer:
        contract = self.contracts.get((call.caller.tenant, call.model))
        if contract is None or contract.status != "ACTIVE":
            suspended = contract is not None and contract.status == "SUSPENDED"
            return Answer("suspended" if suspended else "no_subscription", number)
        plan, period = contract.plan, self.period(contract)

        step = timedelta(seconds=1) / plan.rate
        due = max(contract.due or self.now, self.now)
        early = due - self.now - step * (plan.burst - 1)
        if early > timedelta(0):
            return Answer("rate_limited", number, retry_after_ms=-(-early // timedelta(milliseconds=1)))

        running = sum(hold.is_open for hold in self.holds.values() if hold.contract is contract)
        if plan.concurrency is not None and running >= plan.concurrency:
            return Answer("too_many_at_once", number, limit=Decimal(plan.concurrency))

        settled, held, _ = self.counters(contract, period)
        used = settled + held
        # A smaller plan takes nothing back of what is used already.
        limit = max(plan.limit, used)
        remaining = limit - used
        match plan.unit:
            case "CALL":
                units = Decimal(1)
            case "ELEMENT":
                units = Decimal(call.elements)
            case _:
                # As much as is left to pay it with, and at least what can be charged at all.
                units = min(call.most_seconds if plan.unit == "SECOND" else MOST_TOKENS, remaining)
        least = LEAST.get(plan.unit)
        too_short = least is not None and units < least
        if units > remaining or too_short:
            return Answer("quota_exceeded", number, limit=limit, remaining=remaining, resets_at=period.end)

        # Money is counted in whole nanos, and rounded up: never less is counted than will be billed.
        price = quantized(plan.price(used, units), NANO, math.ceil)
        month = self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        counting: tuple[Budget, ...] = ()
        if price > 0:
            tenant, currency = call.caller.tenant, plan.currency
            # The key's first: of two that leave as much, it is named.
            mine = [Budget(tenant, key, currency) for key in (call.caller.key, None)]
            counting = tuple(budget for budget in dict.fromkeys(mine) if budget in self.budgets)
        if counting:
            rooms = {budget: self.budgets[budget] - sum(self.spending(budget, month)) for budget in counting}
            narrowest = min(counting, key=lambda budget: rooms[budget])
            room = max(rooms[narrowest], Decimal(0))
            if price > room and least is not None:
                assert plan.overage
                free = max(plan.included - used, Decimal(0))
                units = free + quantized(Fraction(room) / Fraction(plan.overage), MICRO, math.floor)
                price = room
                too_short = units < least
            if price > room or too_short:
                return Answer(
                    "budget_exceeded" if narrowest.key else "cap_exceeded",
                    number,
                    limit=self.budgets[narrowest],
                    remaining=room,
                    currency=plan.currency,
                    resets_at=after(month, 1),
                )

        contract.due = due + step
        self.holds[number] = Hold(number, call, units, expires_at, contract, period, plan, price, month, counting)
        return Answer("admitted", number, plan.unit, units)

    def settle(self, number: int, latency_ms: float, tokens: int, answer: bytes | None) -> Decimal | None:
        hold = self.holds.get(number)
        if hold is None or not hold.is_open:
            return None
        before = self._settled_beside(hold)
        units = hold.units
        if hold.plan and hold.plan.unit == "SECOND":
            taken = Decimal(repr(latency_ms)).to_integral_value(ROUND_CEILING) * MILLI
            units = min(units, taken)
        elif hold.plan and hold.plan.unit == "TOKEN":
            units = min(units, Decimal(tokens))
        if units < hold.units:
            hold.price = quantized(Fraction(hold.price) * Fraction(units) / Fraction(hold.units), NANO, math.ceil)
        hold.state, hold.charged, hold.answer = State.SETTLED, units, answer
        self._enter(hold, "charge", units, hold.plan.price(before, units) if hold.plan else Fraction(0))
        return units

    def release(self, number: int) -> bool:
        hold = self.holds.get(number)
        if hold is None or not hold.is_open:
            return False
        hold.state = State.RELEASED
        return True

    def refund(self, number: int) -> bool:
        hold = self.holds.get(number)
        if hold is None or hold.state is not State.SETTLED:
            return False
        units = hold.charged
        hold.state, hold.charged, hold.answer = State.RELEASED, Decimal(0), None
        after_it = self._settled_beside(hold)
        self._enter(hold, "refund", -units, -hold.plan.price(after_it, units) if hold.plan else Fraction(0))
        return True

    def extend(self, number: int, lease: int) -> bool:
        hold = self.holds.get(number)
        if hold is None or not hold.is_open:
            return False
        hold.state, hold.expires_at = State.EXECUTING, self.now + timedelta(seconds=lease)
        return True

    def expire(self) -> int:
        return sum(self.release(hold.number) for hold in self.holds.values() if hold.expires_at < self.now)

    def _settled_beside(self, hold: Hold) -> Decimal:
        if hold.contract is None or hold.period is None:
            return Decimal(0)
        return self.counters(hold.contract, hold.period)[0]

    def _enter(self, hold: Hold, kind: str, units: Decimal, cost: Fraction) -> None:
        amount = quantized(cost, NANO, nearest)
        currency = hold.plan.currency if hold.plan else "USD"
        consumer = Entry(hold.number, kind, "consumer", hold.call.caller.tenant, -units, -amount, currency)
        self.entries += [consumer, consumer._replace(account="publisher", tenant=PUBLISHER, units=units, amount=amount)]

    # Contracts.

    def subscribe(self, tenant: str, model: str, plan: Plan) -> bool:
        """False when it is refused: the model is not to be seen, or its publisher has suspended the contract."""
        contract = self.contracts.get((tenant, model))
        if not self.sees(tenant, model) or (contract and contract.status == "SUSPENDED"):
            return False
        if contract is None:
            self.contracts[tenant, model] = Contract(plan, self.now)
        else:
            contract.plan, contract.status = plan, "ACTIVE"
        return True

    def cancel(self, tenant: str, model: str) -> None:
        self.contracts[tenant, model].status = "CANCELLED"

    def grant(self, tenant: str, model: str) -> None:
        self.granted.add((tenant, model))
        contract = self.contracts.get((tenant, model))
        if contract and contract.status == "SUSPENDED":
            contract.status = "ACTIVE"

    def withdraw(self, tenant: str, model: str) -> None:
        self.granted.discard((tenant, model))
        contract = self.contracts.get((tenant, model))
        if contract and contract.status == "ACTIVE" and model in self.private:
            contract.status = "SUSPENDED"


def after(anchor: datetime, months: int) -> datetime:
    """The same day and time so many months later, or the month's last day where it has no such day."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    return anchor.replace(year=year, month=month + 1, day=day)


def quantized(value: Fraction, step: Decimal, rounding: Callable[[Fraction], int]) -> Decimal:
    """To whole steps, exactly: a Fraction has no digits to lose on the way."""
    return rounding(value / Fraction(step)) * step


def nearest(value: Fraction) -> int:
    """As PostgreSQL rounds numerics: halves away from zero."""
    return math.floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)
