"""The invocation path's own connections to PostgreSQL: async, in autocommit: each decision is one function call."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection as django_connection
from django.utils.translation import gettext as _
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from marketplace.errors import ModelUnavailable

Pool = AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]

MAX_CONNECTIONS = 8
# Within a second, a caller has heard: some of it is spent on the way.
WAIT_SECONDS = 0.8
# On a busy machine, an answer may take longer. A PostgreSQL that answers others meanwhile is slow, and not away.
MOST_SECONDS = 5.0

# When it last answered anybody, by the event loop's clock.
_heard: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def _parameters() -> dict[str, Any]:
    """What Django connects with, as libpq names it."""
    settings = django_connection.settings_dict
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    options = {key: value for key, value in settings["OPTIONS"].items() if key != "pool"}
    return {libpq: settings[django] for django, libpq in names.items() if settings[django]} | options


async def _pool() -> Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        pool: Pool = AsyncConnectionPool(
            kwargs={**_parameters(), "autocommit": True, "connect_timeout": 2},
            min_size=1,
            max_size=MAX_CONNECTIONS,
            timeout=WAIT_SECONDS,
            reconnect_timeout=WAIT_SECONDS,
            open=False,
        )
        _pools[loop] = pool
        await pool.open()
    return _pools[loop]


async def close() -> None:
    """Closes this event loop's connections; the next use opens new ones."""
    pool = _pools.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.close()


@asynccontextmanager
async def connection() -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """A connection in autocommit. Fails closed: raises ModelUnavailable when PostgreSQL is away or too busy."""
    pool = await _pool()
    try:
        async with pool.connection() as borrowed:
            yield borrowed
            loop = asyncio.get_running_loop()
            _heard[loop] = loop.time()
    except (psycopg.OperationalError, PoolTimeout) as error:
        if not isinstance(error, PoolTimeout | psycopg.errors.LockNotAvailable):
            # PostgreSQL went away, and came back perhaps: the other idle connections are as dead as this one was.
            await pool.check()
        raise out_of_reach() from error


def gives_up_at(began: float) -> float:
    """Until when whoever has waited since `began` waits, as of now: both by the event loop's clock.

    WAIT_SECONDS since PostgreSQL last answered anybody, and MOST_SECONDS in all.
    """
    heard = _heard.get(asyncio.get_running_loop(), began)
    return min(max(began, heard) + WAIT_SECONDS, began + MOST_SECONDS)


async def answered(asking: "asyncio.Future[Any]") -> bool:
    """Returns once it is done, or False, as it is, when it is to be given up."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while (until := gives_up_at(began)) > clock():
        await asyncio.wait((asking,), timeout=until - clock())
        if asking.done():
            return True
    return False


async def fetched(statement: LiteralString, parameters: Sequence[Any] | Mapping[str, Any]) -> TupleRow | None:
    """The first row. Raises ModelUnavailable when PostgreSQL is away or too busy."""
    # Not cancelled when it takes longer: psycopg would wait for the server to say that it has stopped, which one that
    # does not answer never says.
    asking = asyncio.ensure_future(_fetched(statement, parameters))
    if not await answered(asking):
        asking.add_done_callback(_unheard)
        raise out_of_reach()
    return asking.result()


async def _fetched(statement: LiteralString, parameters: Sequence[Any] | Mapping[str, Any]) -> TupleRow | None:
    async with connection() as db:
        return await (await db.execute(statement, parameters)).fetchone()


def _unheard(asking: "asyncio.Future[TupleRow | None]") -> None:
    if not asking.cancelled():
        asking.exception()


def out_of_reach() -> ModelUnavailable:
    return ModelUnavailable(
        _("The marketplace cannot reach its records just now, so it runs nothing and charges nothing. Try again."),
        retry_after_ms=1000,
    )
