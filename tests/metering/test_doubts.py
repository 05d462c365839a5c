"""A settlement nobody heard of again: the caller was told that the call failed, so it is not charged."""

import pytest
from asgiref.sync import sync_to_async

from marketplace.errors import ModelUnavailable
from marketplace.metering import doubts, ledger
from marketplace.metering.admission import idle, settle
from marketplace.metering.models import Hold, LedgerEntry, Spending, StoredAnswer
from tests.proxy import Proxy

from .contract import contract
from .proxy import under_way
from .test_terms import QUARTER, budget

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_charge_that_was_acknowledged_to_nobody_is_refunded_once_postgresql_is_back(proxy: Proxy) -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    await budget(acme, "1")
    settling = await under_way(proxy, settle(await acme.admit(), latency_ms=1))

    await proxy.go_away()
    with pytest.raises(ModelUnavailable):
        await settling
    charged = await LedgerEntry.objects.acount()
    proxy.resume()
    await proxy.come_back()
    await doubts.resolved()

    hold = await Hold.objects.aget()
    assert charged == 2
    assert (hold.state, hold.released_because, hold.charged) == ("released", "UNDELIVERED", 0)
    assert [
        (entry.kind, entry.account, entry.units, entry.amount) async for entry in LedgerEntry.objects.order_by("id")
    ] == [
        ("charge", "consumer", -1, -QUARTER),
        ("charge", "publisher", 1, QUARTER),
        ("refund", "publisher", -1, -QUARTER),
        ("refund", "consumer", 1, QUARTER),
    ]
    assert [(await acme.quota()).settled, (await acme.quota()).held] == [0, 0]
    assert (await Spending.objects.aget()).settled == 0
    assert (await sync_to_async(ledger.check)()).exact


async def test_one_whose_answer_is_kept_stays_charged_for_the_retry_gets_it(proxy: Proxy) -> None:
    acme = await contract()
    hold = await acme.admit(idempotency_key="a", digest=b"1")
    settling = await under_way(proxy, settle(hold, latency_ms=1, answer=b"answer"))

    await proxy.go_away()
    with pytest.raises(ModelUnavailable):
        await settling
    proxy.resume()
    await proxy.come_back()
    await doubts.resolved()

    assert (await Hold.objects.aget()).state == "settled"
    assert bytes((await StoredAnswer.objects.aget()).content) == b"answer"


async def test_one_that_never_reached_postgresql_gives_its_units_back_and_its_key_free(proxy: Proxy) -> None:
    acme = await contract()
    hold = await acme.admit(idempotency_key="a", digest=b"1")
    await idle()

    await proxy.go_away()
    with pytest.raises(ModelUnavailable):
        await settle(hold, latency_ms=1, answer=b"answer")
    await proxy.come_back()
    await doubts.resolved()

    assert (await acme.quota()).held == 0
    assert await acme.admit(idempotency_key="a", digest=b"1") != hold


async def test_a_settlement_that_comes_after_the_doubt_was_resolved_charges_nothing() -> None:
    acme = await contract()
    hold = await acme.admit()

    doubts.resolve(hold, refund=True)
    await doubts.resolved()

    assert await settle(hold, latency_ms=1) is None
    assert not await LedgerEntry.objects.aexists()
