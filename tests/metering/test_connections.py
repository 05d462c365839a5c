"""The invocation path's own way to PostgreSQL."""

import asyncio
from uuid import UUID

import pytest

from marketplace.errors import ModelUnavailable
from marketplace.metering import connections
from marketplace.metering.admission import idle
from marketplace.metering.connections import fetched
from tests.proxy import Proxy

from .contract import contract
from .proxy import under_way
from .test_batches import outcomes, queued

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_question_that_is_never_answered_is_given_up_and_nobody_else_is_the_worse_for_it(proxy: Proxy) -> None:
    assert await fetched("SELECT %s + 1", (1,)) == (2,)
    proxy.pause()

    with pytest.raises(ModelUnavailable):
        await fetched("SELECT %s + 1", (1,))

    proxy.resume()
    assert await fetched("SELECT %s + 1", (1,)) == (2,)


async def test_one_that_answers_others_meanwhile_is_slow_and_not_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    asking: asyncio.Future[None] = loop.create_future()
    assert not await connections.answered(asking)

    monkeypatch.setitem(connections._heard, loop, float("inf"))
    waiting = asyncio.create_task(connections.answered(asking))
    await asyncio.sleep(0.05)
    asking.set_result(None)

    assert await waiting


async def test_one_that_is_too_slow_is_given_up_whomever_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(connections, "MOST_SECONDS", 0.02)
    loop = asyncio.get_running_loop()
    monkeypatch.setitem(connections._heard, loop, float("inf"))

    assert not await connections.answered(loop.create_future())


async def test_while_postgresql_is_away_everybody_hears_it_and_once_it_is_back_everybody_is_admitted(
    proxy: Proxy,
) -> None:
    acme = await contract(included_units=1000)
    await acme.admit()
    await proxy.go_away()

    away = await outcomes(queued(*(acme.admit() for _ in range(100))))
    await proxy.come_back()
    while isinstance((await outcomes(queued(acme.admit())))[0], ModelUnavailable):
        pass
    back = await outcomes(queued(*(acme.admit() for _ in range(100))))

    assert {type(answer) for answer in away} == {ModelUnavailable}
    assert {type(answer) for answer in back} == {UUID}
    assert (await acme.quota()).held == 102


async def test_a_postgresql_that_says_nothing_keeps_nobody_waiting_and_nothing_held(proxy: Proxy) -> None:
    acme = await contract()
    await acme.admit()
    first = await under_way(proxy, acme.admit())
    waiting = queued(*(acme.admit() for _ in range(10)))

    answers = await outcomes([first, *waiting])
    proxy.resume()
    await idle()

    assert {type(answer) for answer in answers} == {ModelUnavailable}
    assert (await acme.quota()).held == 1
