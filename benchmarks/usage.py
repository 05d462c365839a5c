"""What publishers' figures cost, by how large the ledger is.

    .venv/bin/python -m marketplace.embedded exec -- .venv/bin/python -m benchmarks.usage [ENTRIES]

The ledger is filled twice, with a tenth of ENTRIES and with all of them, by calls of 20 models by 100 tenants over 90
days. The database that DATABASE_URL names is filled and left behind: give it a throwaway one, as above.
"""

import os
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

import django

django.setup()

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client

from inference import usage
from tests import factories

MODELS, TENANTS, DAYS, RUNS = 20, 100, 90, 7
NEW = 1000

# A call each, from the oldest to the latest.
HOLDS = """
INSERT INTO metering_hold (id, tenant_id, version_id, unit, units, charged, state, created_at, expires_at, finished_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, (%(tenants)s::uuid[])[1 + n / %(models)s %% %(count)s],
       (%(versions)s::uuid[])[1 + n %% %(models)s], 'CALL', 1, 1, 'settled', at, at, at
  FROM generate_series(%(first)s, %(last)s) AS n, LATERAL (SELECT %(since)s + n * %(step)s::interval AS at) AS moments
"""
ENTRIES = """
INSERT INTO metering_ledgerentry (hold_id, kind, account, tenant_id, units, amount, currency, created_at)
SELECT id, 'charge', account, tenant_id, 1, 0.25, 'USD', finished_at
  FROM metering_hold, unnest(ARRAY['consumer', 'publisher']) AS account
 WHERE id >= lpad(to_hex(%(first)s), 32, '0')::uuid
"""
OF_A_MODEL = """query ($from: Date!, $to: Date!) { model(ref: "openlab/model-0") { usage(from: $from, to: $to) {
  days { day calls revenue { amount currency } } plans { plan { name } calls units } tenants { tenantSlug calls }
} } }"""
OF_A_PUBLISHER = """query ($from: Date!, $to: Date!) { publisher(slug: "openlab") { usage(from: $from, to: $to) {
  days { day calls revenue { amount currency } } models { model { ref } calls } tenants { tenantSlug calls }
} } }"""


class Ledger:
    def __init__(self) -> None:
        openlab = factories.tenant("openlab", is_publisher=True)
        self.browser = Client(HTTP_HOST="localhost")
        self.browser.force_login(factories.member(openlab), backend="django.contrib.auth.backends.ModelBackend")
        versions = [factories.version(factories.model(openlab, f"model-{n}")).pk for n in range(MODELS)]
        tenants = [factories.tenant().pk for _ in range(TENANTS)]
        self.rows = {"versions": versions, "tenants": tenants, "models": MODELS, "count": TENANTS}

    def fill(self, calls: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET marketplace.allow_truncate = on")
            cursor.execute(
                "TRUNCATE metering_ledgerentry, metering_hold, subscriptions_dailyusage, inference_watermark CASCADE"
            )
            self.calls = 0
            self.add(calls, since=datetime.now(UTC) - timedelta(days=DAYS), span=timedelta(days=DAYS))
            cursor.execute("VACUUM ANALYZE metering_ledgerentry, metering_hold")

    def add(self, calls: int, *, since: datetime, span: timedelta = timedelta(0)) -> None:
        numbers = {"first": self.calls, "last": self.calls + calls - 1, "since": since, "step": span / calls}
        with connection.cursor() as cursor:
            cursor.execute(HOLDS, self.rows | numbers)
            cursor.execute(ENTRIES, numbers)
        self.calls += calls

    def ask(self, document: str) -> None:
        today = datetime.now(UTC).date()
        variables = {"from": str(today - timedelta(days=29)), "to": str(today)}
        body = {"query": document, "variables": variables}
        answer = self.browser.post("/graphql", body, "application/json", headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 200, answer.content
        assert "errors" not in answer.json(), answer.json()

    def visit(self, path: str) -> None:
        assert self.browser.get(path).status_code == 200, path


def took(do: Callable[[], object], *, before: Callable[[], object] = lambda: None, runs: int = RUNS) -> float:
    """The median, in milliseconds."""
    times = []
    for _ in range(runs):
        before()
        started = perf_counter()
        do()
        times.append((perf_counter() - started) * 1000)
    return median(times)


def measured(ledger: Ledger) -> dict[str, float]:
    found = {"the first count": took(usage.count, runs=1)}
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE subscriptions_dailyusage")
    found["a count with nothing new"] = took(usage.count)
    found[f"a count with {2 * NEW:,} new entries"] = took(
        usage.count, before=lambda: ledger.add(NEW, since=datetime.now(UTC))
    )
    found["a model's 30 days in GraphQL"] = took(lambda: ledger.ask(OF_A_MODEL))
    found["a publisher's 30 days in GraphQL"] = took(lambda: ledger.ask(OF_A_PUBLISHER))
    found["the panel's page of figures"] = took(lambda: ledger.visit("/publish/subscriptions/dailyusage/"))
    found["the panel's first page"] = took(lambda: ledger.visit("/publish/"))
    found["the proof"] = took(usage.differences, runs=1)
    assert usage.differences() == []
    return found


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    # Nobody has collected static files here.
    settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
    call_command("migrate", verbosity=0)
    ledger = Ledger()
    found = []
    for number in (entries // 10, entries):
        started = perf_counter()
        ledger.fill(number // 2)
        print(f"{number:,} entries, made in {perf_counter() - started:.0f} s", flush=True)
        found.append(measured(ledger))
    print(f"{'':40} {entries // 10:>14,} {entries:>14,} {'ratio':>7}")
    for what in found[0]:
        few, many = (each[what] for each in found)
        print(f"{what:40} {few:11.1f} ms {many:11.1f} ms {many / few:7.2f}")


if __name__ == "__main__":
    main()
