"""Every service is killed once at every moment of a call, and the journal, the ledger and the answers agree."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .crashes import EACH_ONCE, Report, crash


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    # A short path: the name of a Unix socket has no more than 107 bytes.
    data_dir = Path(tempfile.mkdtemp(prefix="soak-"))
    yield asyncio.run(crash(data_dir, EACH_ONCE, print))
    shutil.rmtree(data_dir)


def test_each_service_was_killed_at_each_moment(report: Report) -> None:
    assert report.kills == dict.fromkeys(EACH_ONCE, 1)


def test_every_call_with_an_idempotency_key_was_answered_and_charged(report: Report) -> None:
    assert report.verdict.lost == []
    assert report.verdict.counts["charges with a key"] == report.verdict.counts["calls with a key"] > 0


def test_no_call_was_charged_twice(report: Report) -> None:
    assert report.verdict.double == []


def test_each_call_has_one_answer_however_often_it_was_asked(report: Report) -> None:
    assert report.verdict.wrong == []
    assert report.verdict.counts["asked again"] == report.verdict.counts["calls with a key"]


def test_a_call_without_a_key_is_charged_when_it_was_delivered_and_else_only_when_in_doubt(report: Report) -> None:
    counts = report.verdict.counts
    in_doubt = sum(count for name, count in counts.items() if name.startswith("in doubt") and name.count(":") == 1)
    delivered = counts["calls without a key"] - in_doubt

    assert delivered > 0
    assert delivered <= counts["charges without a key"] <= delivered + in_doubt


def test_some_calls_met_a_crash(report: Report) -> None:
    assert report.verdict.counts["holds released: EXPIRED"] > 0
    assert report.verdict.counts["retries after silence"] > 0


def test_the_ledger_is_exact(report: Report) -> None:
    assert report.ledger.startswith("The ledger is exact: ")


def test_while_postgresql_is_away_calls_are_refused_soon_and_answered_again_soon_after(report: Report) -> None:
    # A second to refuse and two to recover is what is promised on a machine that does nothing else.
    for outage in report.outages.values():
        assert outage.refusals
        assert max(outage.refusals) < 5
        assert outage.recovery < 10
