"""Journal, ledger and answers, side by side: after any crash they say the same."""

import struct
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from inference.tensors import Datatype, InferenceRequest, Tensor, digest

from .callers import Call, Journal
from .product import MODEL, TENANT

# Every hold, and what its entries say in all; adjusting entries would count too.
HOLDS = """
SELECT h.id::text, h.idempotency_key, h.request_digest, h.state, h.released_because,
       coalesce(-sum(e.units) FILTER (WHERE e.account = 'consumer'), 0) AS consumed,
       coalesce(sum(e.units) FILTER (WHERE e.account = 'publisher'), 0) AS earned
  FROM metering_hold h JOIN tenants_tenant t ON t.id = h.tenant_id LEFT JOIN metering_ledgerentry e ON e.hold_id = h.id
 WHERE t.slug = %s GROUP BY h.id
"""
TOTALS = """
SELECT coalesce(sum(settled), 0) AS settled, coalesce(sum(held), 0) AS held,
       (SELECT coalesce(sum(units), 0) FROM metering_ledgerentry) AS entries
  FROM metering_quota
"""
UNFINISHED = "SELECT count(*) FROM metering_hold WHERE state NOT IN ('settled', 'released')"


@dataclass
class Verdict:
    """`counts` are for people; `lost`, `double` and `wrong` name each call concerned: empty when all is exact."""

    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.double or self.wrong)


def compare(journal: Journal, database: str) -> Verdict:
    """`database`: where PostgreSQL itself is. Nothing may be under way any more."""
    verdict = Verdict()
    answers: defaultdict[Call, set[tuple[str, float]]] = defaultdict(set)
    doubts: dict[Call, str] = {}
    for line in journal.lines():
        call = Call(line["number"], line["key"])
        answers[call] |= {(line["invocation"], line["sum"])} if "sum" in line else set()
        if "doubt" in line:
            doubts[call] = f"{line['doubt'].lower()}, after {line['during']}"
    with psycopg.connect(database, row_factory=namedtuple_row) as db:
        holds: list[Any] = db.execute(HOLDS, (TENANT,)).fetchall()
        totals: Any = db.execute(TOTALS).fetchone()
    by_request = {request_digest(call): call for call in answers}
    charges: defaultdict[Call, list[Any]] = defaultdict(list)
    for hold in holds:
        known = by_request.get(hold.request_digest)
        if known is None:
            verdict.wrong.append(f"hold {hold.id}: nobody's journal has its call")
            continue
        if known.key != hold.idempotency_key:
            verdict.wrong.append(f"hold {hold.id}: call {known.number} was sent with another key")
        if hold.state == "settled":
            charges[known].append(hold)
        elif hold.state != "released":
            verdict.wrong.append(f"hold {hold.id} is still {hold.state}")
        if hold.consumed != hold.earned or hold.consumed != (hold.state == "settled"):
            verdict.wrong.append(f"hold {hold.id}, {hold.state}: {hold.consumed} consumed, {hold.earned} earned")
    for call in answers:
        _judge(verdict, call, answers[call], [hold.id for hold in charges[call]], doubts.get(call))
    charged = sum(map(len, charges.values()))
    if (totals.settled, totals.held, totals.entries) != (charged, 0, 0):
        verdict.wrong.append(f"{charged} holds are settled, and the totals are {totals}")
    verdict.counts.update(f"holds released: {hold.released_because}" for hold in holds if hold.state == "released")
    return verdict


def _judge(
    verdict: Verdict, call: Call, answers: set[tuple[str, float]], charges: list[Any], doubt: str | None
) -> None:
    kind = "with a key" if call.key else "without a key"
    verdict.counts[f"calls {kind}"] += 1
    verdict.counts[f"charges {kind}"] += len(charges)
    if len(charges) > 1:
        verdict.double.append(f"call {call.number} {kind}: charged {len(charges)} times")
    if doubt is not None:
        verdict.counts[f"in doubt: {doubt}"] += 1
        verdict.counts[f"in doubt: {doubt}: charged all the same"] += len(charges)
    elif not answers:
        verdict.lost.append(f"call {call.number} {kind}: never answered")
    elif len(charges) == 0:
        verdict.lost.append(f"call {call.number} {kind}: delivered and not charged")
    if len(answers) > 1 or any(total != call.sum for _, total in answers):
        verdict.wrong.append(f"call {call.number} {kind}: answered {sorted(answers)}")
    elif len(charges) == 1 and answers and set(charges) != {invocation for invocation, _ in answers}:
        verdict.wrong.append(f"call {call.number} {kind}: answered {sorted(answers)}, charged {charges[0]}")


def request_digest(call: Call) -> bytes:
    tensors = (
        Tensor(name, Datatype.FP32, (1,), struct.pack("<f", number))
        for name, number in zip("AB", call.summands, strict=True)
    )
    return digest(MODEL, None, InferenceRequest(tuple(tensors)))
