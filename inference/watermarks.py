"""How far a job that counts on from where it last stopped may go."""

from datetime import datetime
from typing import Any

# Until when every hold that has finished can be seen. A transaction that finishes holds locks their table before it
# takes the time; so it began before that time, and either shows among the locks or has ended. The moment asked with
# is before the locks are looked at.
_CLOSED = """
SELECT least(%(moment)s, min(a.xact_start))
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.relation = 'metering_hold'::regclass
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
"""


def closed_until(cursor: Any, moment: datetime) -> datetime:
    """`moment`, which has passed, or as much earlier as somebody may still commit what finished before it."""
    cursor.execute(_CLOSED, {"moment": moment})
    until: datetime = cursor.fetchone()[0]
    return until
