"""Tables emptied behind a test that commits: those that have rows, by deleting them.

Django truncates all of them, which makes a new file for each table and each index, and then writes content types and
permissions anew: a fifth of a second behind each of thousands of tests. Whoever still writes is waited for, as
TRUNCATE does.
"""

from collections.abc import Callable

from django.db import connection, transaction

# They are the same before and after every test.
KEPT = frozenset({"django_content_type", "auth_permission"})
# Which refuses that anything is deleted.
TRUNCATED = "metering_ledgerentry"
# Deleted rows take up room until they are truncated after all.
MOST_BYTES = 512 * 1024

_tables: list[str] = []


def empty(truncate_all: Callable[[], None]) -> None:
    """`truncate_all` is called instead when a table has grown large."""
    if not _tables:
        known = connection.introspection.django_table_names(only_existing=True, include_views=False)
        _tables.extend(sorted(set(known) - KEPT))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(_tables)} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}', pg_relation_size('{table}') WHERE EXISTS (SELECT FROM {table})" for table in _tables
            )
        )
        sizes: dict[str, int] = dict(cursor.fetchall())
        small = all(size <= MOST_BYTES for size in sizes.values())
        if small:
            for table in sizes:
                cursor.execute(f"TRUNCATE {table}" if table == TRUNCATED else f"DELETE FROM {table}")
    if not small:
        truncate_all()
