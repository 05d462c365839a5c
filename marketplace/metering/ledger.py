"""The ledger's checker: proves that counters, holds and entries say the same, all of them, as of one moment.

PostgreSQL does the sums, in one REPEATABLE READ, read-only transaction: it takes no lock that a call would wait for,
and what it cannot keep in `WORK_MEMORY` it spills to disk. It reads every hold and every entry once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils.translation import gettext as _

# How long past its expiry a hold may live: the worker gives back what expired every few seconds.
GRACE_SECONDS = 60
WORK_MEMORY = "64MB"
MOST_NAMED = 20

# Every hold with the sums of its entries, and what is wrong with it; entries without a hold have a row as well.
_HOLDS = """
WITH entries AS (
    SELECT hold_id,
           count(*) AS entries,
           count(*) FILTER (WHERE kind = 'charge' AND account = 'consumer') AS consumers,
           count(*) FILTER (WHERE kind = 'charge' AND account = 'publisher') AS publishers,
           count(*) FILTER (WHERE kind = 'refund' AND account = 'consumer') AS consumer_refunds,
           count(*) FILTER (WHERE kind = 'refund' AND account = 'publisher') AS publisher_refunds,
           sum(units) AS units,
           sum(amount) AS amount,
           min(currency) <> max(currency) AS currencies_differ,
           coalesce(-sum(units) FILTER (WHERE account = 'consumer'), 0) AS consumed
      FROM metering_ledgerentry GROUP BY hold_id
), holds AS (
    SELECT coalesce(h.id, e.hold_id) AS id, h.quota_id, h.state, h.units, h.charged, h.expires_at,
           coalesce(e.entries, 0) AS entries,
           coalesce(e.units, 0) AS entries_units,
           coalesce(e.amount, 0) AS entries_amount,
           coalesce(e.consumed, 0) AS consumed,
           coalesce(e.units <> 0 OR e.amount <> 0 OR e.currencies_differ, false) AS unbalanced,
           CASE h.state
               WHEN 'settled' THEN e.hold_id IS NULL OR (e.entries, e.consumers, e.publishers) <> (2, 1, 1)
               -- Charged, and refunded.
               WHEN 'released' THEN e.hold_id IS NOT NULL AND
                   (e.entries, e.consumers, e.publishers, e.consumer_refunds, e.publisher_refunds) <> (4, 1, 1, 1, 1)
               ELSE e.hold_id IS NOT NULL
           END AS miscounted,
           coalesce(
               CASE h.state
                   WHEN 'settled' THEN e.consumed <> h.charged
                   WHEN 'released' THEN h.charged <> 0 OR e.consumed <> 0
               END, false) AS mischarged,
           h.state NOT IN ('settled', 'released') AND h.expires_at < now() - make_interval(secs => %(grace)s) AS overdue
      FROM metering_hold h FULL JOIN entries e ON e.hold_id = h.id
)
"""

# Every quota with the sums of its holds, wrong ones first; holds of a publisher's own models have no quota.
_QUOTAS = (
    _HOLDS  # noqa: S608  (two constants)
    + """
, sums AS (
    SELECT quota_id,
           count(state) AS holds,
           sum(entries) AS entries,
           count(*) FILTER (WHERE unbalanced OR miscounted OR mischarged OR overdue) AS faulty_holds,
           coalesce(sum(units) FILTER (WHERE state NOT IN ('settled', 'released')), 0) AS held,
           count(*) FILTER (WHERE state NOT IN ('settled', 'released')) AS running,
           coalesce(sum(charged) FILTER (WHERE state = 'settled'), 0) AS charged,
           sum(consumed) AS consumed
      FROM holds GROUP BY quota_id
), quotas AS (
    SELECT coalesce(q.id, s.quota_id) AS id, q.unit_limit, q.settled, q.held, q.running,
           coalesce(s.running, 0) AS open_holds,
           coalesce(s.held, 0) AS held_by_holds,
           coalesce(s.charged, 0) AS charged_by_holds,
           coalesce(s.consumed, 0) AS consumed_by_entries,
           coalesce(s.holds, 0) AS holds,
           coalesce(s.entries, 0) AS entries,
           coalesce(s.faulty_holds, 0) AS faulty_holds,
           q.id IS NOT NULL AS exists
      FROM metering_quota q FULL JOIN sums s ON s.quota_id = q.id
), judged AS (
    SELECT *, CASE WHEN exists
                   THEN unit_limit < settled + held OR held <> held_by_holds
                        OR settled <> charged_by_holds OR settled <> consumed_by_entries OR running <> open_holds
                   ELSE id IS NOT NULL
              END AS faulty
      FROM quotas
)
SELECT faulty, id, unit_limit, settled, held, held_by_holds, charged_by_holds, consumed_by_entries,
       running, open_holds,
       count(*) FILTER (WHERE faulty) OVER (),
       count(*) FILTER (WHERE exists) OVER (),
       sum(holds) OVER (),
       sum(entries) OVER (),
       sum(faulty_holds) OVER ()
  FROM judged ORDER BY faulty DESC, id LIMIT %(most)s
"""
)

_FAULTY_HOLDS = (
    _HOLDS
    + """
SELECT id, state, charged, expires_at, entries, entries_units, entries_amount, consumed,
       unbalanced, miscounted, mischarged, overdue
  FROM holds WHERE unbalanced OR miscounted OR mischarged OR overdue LIMIT %(most)s
"""
)


# Every month of every budget with the sums of its holds, wrong ones first.
_SPENDINGS = """
WITH sums AS (
    SELECT of.spending,
           sum(h.price) FILTER (WHERE h.state NOT IN ('settled', 'released')) AS held,
           sum(h.price) FILTER (WHERE h.state = 'settled') AS settled
      FROM metering_hold h CROSS JOIN LATERAL (VALUES (h.spending_id), (h.key_spending_id)) AS of (spending)
     WHERE of.spending IS NOT NULL GROUP BY of.spending
), spendings AS (
    SELECT s.id, s.amount_limit, s.settled, s.held,
           coalesce(sums.held, 0) AS held_by_holds, coalesce(sums.settled, 0) AS settled_by_holds
      FROM metering_spending s LEFT JOIN sums ON sums.spending = s.id
), judged AS (
    SELECT *, amount_limit < settled + held OR held <> held_by_holds OR settled <> settled_by_holds AS faulty
      FROM spendings
)
SELECT faulty, id, amount_limit, settled, held, held_by_holds, settled_by_holds,
       count(*) FILTER (WHERE faulty) OVER ()
  FROM judged ORDER BY faulty DESC, id LIMIT %(most)s
"""


class _Spending(NamedTuple):
    id: int
    limit: Decimal
    settled: Decimal
    held: Decimal
    held_by_holds: Decimal
    settled_by_holds: Decimal

    def faults(self) -> Iterator[str]:
        words = {name: _plain(value) for name, value in self._asdict().items()}
        if self.limit < self.settled + self.held:
            yield _("Spending %(id)s is over: of %(limit)s it counts %(settled)s settled and %(held)s held.") % words
        if self.held != self.held_by_holds:
            yield _("Spending %(id)s counts %(held)s held, but its holds have %(held_by_holds)s.") % words
        if self.settled != self.settled_by_holds:
            yield _("Spending %(id)s counts %(settled)s settled, but its holds have %(settled_by_holds)s.") % words


class _Quota(NamedTuple):
    id: int
    unit_limit: Decimal | None
    settled: Decimal
    held: Decimal
    held_by_holds: Decimal
    charged_by_holds: Decimal
    consumed_by_entries: Decimal
    running: int
    open_holds: int

    def faults(self) -> Iterator[str]:
        words = {name: _plain(value) for name, value in self._asdict().items()}
        if self.unit_limit is None:
            yield _("Quota %(id)s does not exist, and holds name it.") % words
            return
        if self.unit_limit < self.settled + self.held:
            yield _("Quota %(id)s is over: of %(unit_limit)s units %(settled)s are settled and %(held)s held.") % words
        if self.held != self.held_by_holds:
            yield _("Quota %(id)s counts %(held)s units held, but its holds have %(held_by_holds)s.") % words
        if self.settled != self.charged_by_holds:
            yield (
                _("Quota %(id)s counts %(settled)s units settled, but its holds were charged %(charged_by_holds)s.")
                % words
            )
        if self.settled != self.consumed_by_entries:
            yield (
                _("Quota %(id)s counts %(settled)s units settled, but the ledger took %(consumed_by_entries)s for it.")
                % words
            )
        if self.running != self.open_holds:
            yield _("Quota %(id)s counts %(running)s calls under way, but has %(open_holds)s open holds.") % words


class _Hold(NamedTuple):
    id: UUID
    state: str | None
    charged: Decimal | None
    expires_at: datetime | None
    entries: int
    entries_units: Decimal
    entries_amount: Decimal
    consumed: Decimal
    unbalanced: bool
    miscounted: bool
    mischarged: bool
    overdue: bool

    def faults(self) -> Iterator[str]:
        words = {name: _plain(value) for name, value in self._asdict().items()}
        if self.state is None:
            yield _("Hold %(id)s does not exist, and has entries: %(entries)s.") % words
            return
        if self.unbalanced:
            yield (
                _(
                    "Hold %(id)s has entries that do not cancel out in one currency: "
                    "they sum to %(entries_units)s units and an amount of %(entries_amount)s."
                )
                % words
            )
        if self.miscounted and self.state == "settled":
            yield (
                _("Hold %(id)s is settled, but its entries (%(entries)s) are not one for each of the two sides.")
                % words
            )
        elif self.miscounted:
            yield (
                _("Hold %(id)s is %(state)s, but has entries (%(entries)s) other than a charge and its refund.") % words
            )
        if self.mischarged:
            yield _("Hold %(id)s was charged %(charged)s units, but the ledger took %(consumed)s for it.") % words
        if self.overdue:
            yield _("Hold %(id)s expired at %(expires_at)s and is still %(state)s.") % words


@dataclass(frozen=True, slots=True)
class Report:
    """What was read, how many quotas, holds and months of budgets are wrong; of MOST_NAMED of each, what."""

    quotas: int
    holds: int
    entries: int
    faulty_quotas: int
    faulty_holds: int
    faulty_spendings: int
    violations: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return self.faulty_quotas == self.faulty_holds == self.faulty_spendings == 0

    def __str__(self) -> str:
        read = {"quotas": self.quotas, "holds": self.holds, "entries": self.entries}
        if self.exact:
            return _("The ledger is exact: %(quotas)d quotas, %(holds)d holds, %(entries)d entries agree.") % read
        return _(
            "THE LEDGER IS NOT EXACT: %(faulty_quotas)d of %(quotas)d quotas and %(faulty_holds)d of %(holds)d holds "
            "are wrong, and %(faulty_spendings)d months of budgets (%(entries)d entries read)."
        ) % (
            read
            | {
                "faulty_quotas": self.faulty_quotas,
                "faulty_holds": self.faulty_holds,
                "faulty_spendings": self.faulty_spendings,
            }
        )


def check() -> Report:
    """Checks all that was ever metered. Must not run within a transaction: it needs one of its own."""
    parameters = {"grace": GRACE_SECONDS, "most": MOST_NAMED}
    violations: list[str] = []
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(f"SET LOCAL work_mem = '{WORK_MEMORY}'")
        cursor.execute(_SPENDINGS, parameters)
        rows = cursor.fetchall()
        faulty_spendings = rows[0][-1] if rows else 0
        for faulty, *facts in (row[:-1] for row in rows):
            if faulty:
                violations.extend(_Spending(*facts).faults())
        cursor.execute(_QUOTAS, parameters)
        rows = cursor.fetchall()
        faulty_quotas, quotas, holds, entries, faulty_holds = map(int, rows[0][-5:]) if rows else (0, 0, 0, 0, 0)
        for faulty, *facts in (row[:-5] for row in rows):
            if faulty:
                violations.extend(_Quota(*facts).faults())
        # Which ones is asked only when there are any: it reads everything a second time.
        if faulty_holds:
            cursor.execute(_FAULTY_HOLDS, parameters)
            for row in cursor.fetchall():
                violations.extend(_Hold(*row).faults())
    return Report(quotas, holds, entries, faulty_quotas, faulty_holds, faulty_spendings, tuple(violations))


def _plain(value: object) -> str:
    """Numbers without trailing zeros and exponents, everything else as it is."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
