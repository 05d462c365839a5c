"""What a batch reads: its own holds, however many there are, and whatever statistics said when its plans were made."""

from uuid import UUID

import psycopg
import pytest
import uuid_utils.compat as uuid

from marketplace.metering import connections
from marketplace.metering.admission import ADMIT, NO_HINT, RELEASE, SETTLE

from .contract import Contract, contract

pytestmark = pytest.mark.django_db(transaction=True)

READ = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'metering_hold'"


async def admitted(db: psycopg.AsyncConnection, acme: Contract) -> UUID:
    question = (uuid.uuid7(), acme.consumer.pk, None, None, acme.version.pk, 1, 10, None, b"1", 60.0, *NO_HINT)
    await db.execute(ADMIT, [[part] for part in question])
    return question[0]


async def settled(db: psycopg.AsyncConnection, hold: UUID) -> None:
    await db.execute(SETTLE, [[hold], [1.0], [None], [None], [b"1"], 60.0])


async def read(db: psycopg.AsyncConnection) -> int:
    """Rows of holds that this connection has read, what foreign keys make it read at COMMIT included."""
    await db.execute("SET CONSTRAINTS ALL IMMEDIATE")
    row = await (await db.execute(READ)).fetchone()
    assert row is not None
    return int(row[0])


async def test_who_admits_settles_or_releases_one_call_reads_no_other() -> None:
    acme = await contract(included_units=1000)
    async with await psycopg.AsyncConnection.connect(**connections._parameters(), autocommit=True) as db:
        await db.execute("ANALYZE metering_hold")
        # Settled and open ones, and more often than a plan is made anew for.
        holds = [await admitted(db, acme) for _ in range(200)]
        for hold in holds[:100]:
            await settled(db, hold)
        await db.set_autocommit(False)

        before = await read(db)
        await admitted(db, acme)
        after_admission = await read(db)
        await settled(db, holds[150])
        after_settlement = await read(db)
        await db.execute(RELEASE, [[holds[151]], ["INTERNAL"]])
        after_release = await read(db)

    assert after_admission - before < 20
    assert after_settlement - after_admission < 20
    assert after_release - after_settlement < 20
