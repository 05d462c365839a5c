"""How long the catalogue's pages take at a hundred thousand models, in process, in milliseconds (median of runs).

    .venv/bin/python -m marketplace.embedded exec -- .venv/bin/python -m benchmarks.catalog [MODELS]

The database that DATABASE_URL names is filled and left behind: give it a throwaway one, as above.
"""

import asyncio
import os
import sys
from itertools import product
from statistics import median
from time import perf_counter
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

import django

django.setup()

from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import connection
from django.test import RequestFactory

from graphql_api.execution import execute
from graphql_api.searching import BY_NAME, BY_POPULARITY, NEWEST_FIRST
from marketplace.catalog.models import MLModel
from marketplace.tenants.actions import found_tenant

RUNS = 7
PAGE = 20

REAL = ["digits", "sentiment", "tumour", "weather", "forecast", "speech", "chess"]
SYLLABLES = ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu"]
# A word occurs in about one model of a hundred.
WORDS = REAL + ["".join(parts) for parts in product(SYLLABLES, repeat=3)][: 600 - len(REAL)]

FILL = """
INSERT INTO catalog_mlmodel (id, publisher_id, name, display_name, summary, card, task, tags, license, visibility,
                             subscriber_count, created_at, updated_at)
SELECT md5('model' || n)::uuid, (%(publishers)s::uuid[])[1 + n %% 100], a || '-' || n, initcap(a) || ' ' || b,
       'It does ' || c || ' with ' || d || ' data.', repeat('About ' || e || ' and how it was measured. ', 20),
       (ARRAY['TEXT_EMBEDDING', 'TEXT_CLASSIFICATION', 'IMAGE_CLASSIFICATION', 'OCR', 'OTHER'])[1 + n %% 5],
       ARRAY[a, c], (ARRAY['MIT', 'Apache-2.0', 'BSD-3-Clause'])[1 + n %% 3],
       CASE WHEN n %% 50 = 0 THEN 'PRIVATE' ELSE 'PUBLIC' END,
       CASE WHEN n %% 10 = 0 THEN n %% 1000 ELSE 0 END, now(), now()
  FROM generate_series(1, %(models)s) AS n,
       LATERAL (SELECT w[1 + n %% l] AS a, w[1 + (n / 3) %% l] AS b, w[1 + (n / 7) %% l] AS c,
                       w[1 + (n / 11) %% l] AS d, w[1 + (n / 13) %% l] AS e
                  FROM (SELECT %(words)s::text[] AS w, %(count)s AS l) AS vocabulary) AS words
"""

LIST = """
query ($after: String, $orderBy: ModelOrder!, $search: String) {
  models(first: 20, after: $after, orderBy: $orderBy, search: $search) {
    edges { cursor node { id ref displayName summary task tags license subscriberCount liveVersion { number } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
COUNT = "query ($search: String) { models(search: $search) { totalCount } }"
FACETS = """
query ($search: String) {
  models(search: $search) { facets {
    tasks { value count } tags { value count } licenses { value count } publishers { value count }
  } }
}"""


def fill(models: int) -> None:
    publishers = [found_tenant(name=f"Publisher {n}", owner=None, is_publisher=True).pk for n in range(100)]
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"publishers": publishers, "models": models, "words": WORDS, "count": len(WORDS)})
        cursor.execute("VACUUM ANALYZE catalog_mlmodel")


async def ask(document: str, **variables: Any) -> dict[str, Any]:
    request = RequestFactory().get("/graphql")
    request.user = AnonymousUser()
    answer = await execute(request, document, variables)
    assert not answer.errors, answer.errors
    assert answer.data is not None
    return answer.data


async def timed(label: str, document: str, **variables: Any) -> None:
    times = []
    for _ in range(RUNS):
        started = perf_counter()
        await ask(document, **variables)
        times.append((perf_counter() - started) * 1000)
    print(f"{label:44} {median(times):8.1f} ms")


async def measure(cursors: dict[str, str]) -> None:
    for name, cursor in cursors.items():
        await timed(f"{name.lower()}, page 1", LIST, orderBy=name)
        await timed(f"{name.lower()}, page 1,000", LIST, orderBy=name, after=cursor)
    for text in ("sentiment", "sentimnt", "weather forecast", "chess in speech", "zebra"):
        await timed(f"search {text!r}", LIST, orderBy="RELEVANCE", search=text)
    await timed("count of all", COUNT)
    await timed("count of 'sentimnt'", COUNT, search="sentimnt")
    await timed("facets of all", FACETS)
    await timed("facets of 'sentimnt'", FACETS, search="sentimnt")


def main() -> None:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    call_command("migrate", verbosity=0)
    started = perf_counter()
    fill(models)
    print(f"filled with {models} models in {perf_counter() - started:.0f} s")
    cursors = {}
    for name, order in (("POPULARITY", BY_POPULARITY), ("NEWEST", NEWEST_FIRST), ("NAME", BY_NAME)):
        keys = [f"-{key}" if order.descending else key for key in order.keys]
        public = MLModel.objects.filter(visibility="PUBLIC").order_by(*keys)
        cursors[name] = order.cursor(public[min(1000 * PAGE, models // 2)])
    asyncio.run(measure(cursors))


if __name__ == "__main__":
    main()
