"""Tables emptied behind a test that commits, as Django does it, but for what is the same before and after every test.

Django empties content types and permissions too, and writes them anew: 50 ms behind each of thousands of tests. Nothing
is deleted instead of truncated: rows would no longer be in the order in which they were written.
"""

from django.db import connection, transaction

KEPT = frozenset({"django_content_type", "auth_permission"})

_tables: list[str] = []


def empty() -> None:
    """Waits for whoever still writes."""
    if not _tables:
        known = connection.introspection.django_table_names(only_existing=True, include_views=False)
        _tables.extend(sorted(set(known) - KEPT))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(_tables)} IN ACCESS EXCLUSIVE MODE")
        cursor.execute("SELECT bool_or(pg_relation_size(each::regclass) > 0) FROM unnest(%s::text[]) each", [_tables])
        if cursor.fetchone()[0]:
            cursor.execute(f"TRUNCATE {', '.join(_tables)}")
