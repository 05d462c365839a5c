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
               ELSE e.hold_id IS NOT NULL
           END AS miscounted,
           h.state = 'settled' AND e.consumed <> h.charged AS mischarged,
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
           coalesce(sum(charged) FILTER (WHERE state = 'settled'), 0) AS charged,
           sum(consumed) AS consumed
      FROM holds GROUP BY quota_id
), quotas AS (
    SELECT coalesce(q.id, s.quota_id) AS id, q.unit_limit, q.settled, q.held,
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
                        OR settled <> charged_by_holds OR settled <> consumed_by_entries
                   ELSE id IS NOT NULL
              END AS faulty
      FROM quotas
)
SELECT faulty, id, unit_limit, settled, held, held_by_holds, charged_by_holds, consumed_by_entries,
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


class _Quota(NamedTuple):
    id: int
    unit_limit: Decimal | None
    settled: Decimal
    held: Decimal
    held_by_holds: Decimal
    charged_by_holds: Decimal
    consumed_by_entries: Decimal

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
            yield _("Hold %(id)s is %(state)s, but has entries: %(entries)s.") % words
        if self.mischarged:
            yield _("Hold %(id)s was charged %(charged)s units, but the ledger took %(consumed)s for it.") % words
        if self.overdue:
            yield _("Hold %(id)s expired at %(expires_at)s and is still %(state)s.") % words


@dataclass(frozen=True, slots=True)
class Report:
    """What was read, how many quotas and holds are wrong, and of the first MOST_NAMED of each what is wrong."""

    quotas: int
    holds: int
    entries: int
    faulty_quotas: int
    faulty_holds: int
    violations: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return self.faulty_quotas == self.faulty_holds == 0

    def __str__(self) -> str:
        read = {"quotas": self.quotas, "holds": self.holds, "entries": self.entries}
        if self.exact:
            return _("The ledger is exact: %(quotas)d quotas, %(holds)d holds, %(entries)d entries agree.") % read
        return _(
            "THE LEDGER IS NOT EXACT: %(faulty_quotas)d of %(quotas)d quotas and %(faulty_holds)d of %(holds)d holds "
            "are wrong (%(entries)d entries read)."
        ) % (read | {"faulty_quotas": self.faulty_quotas, "faulty_holds": self.faulty_holds})


def check() -> Report:
    """Checks all that was ever metered. Must not run within a transaction: it needs one of its own."""
    parameters = {"grace": GRACE_SECONDS, "most": MOST_NAMED}
    violations: list[str] = []
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(f"SET LOCAL work_mem = '{WORK_MEMORY}'")
        cursor.execute(_QUOTAS, parameters)
        rows = cursor.fetchall()
        if not rows:
            return Report(0, 0, 0, 0, 0, ())
        faulty_quotas, quotas, holds, entries, faulty_holds = map(int, rows[0][-5:])
        for faulty, *facts in (row[:-5] for row in rows):
            if faulty:
                violations.extend(_Quota(*facts).faults())
        # Which ones is asked only when there are any: it reads everything a second time.
        if faulty_holds:
            cursor.execute(_FAULTY_HOLDS, parameters)
            for row in cursor.fetchall():
                violations.extend(_Hold(*row).faults())
    return Report(quotas, holds, entries, faulty_quotas, faulty_holds, tuple(violations))


def _plain(value: object) -> str:
    """Numbers without trailing zeros and exponents, everything else as it is."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
