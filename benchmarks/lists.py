"""How long the lists take that publishers and staff see, by how much there is to list, in process.

    .venv/bin/python -m marketplace.embedded exec -- .venv/bin/python -m benchmarks.lists [EVENTS]

One publisher has EVENTS release events and uploads, a tenth as many models and access requests, and a hundredth as
many subscribers of one model; before that, a hundredth of all of these. Each list asks as many queries of much as of
little. The database that DATABASE_URL names is filled and left behind: give it a throwaway one, as above.
"""

import os
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from unittest.mock import patch

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

import django

django.setup()

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test import Client

from marketplace.publishing import uploads
from tests import factories

RUNS = 5
BACKEND = "django.contrib.auth.backends.ModelBackend"

# From the `first` to the `last` of what there is `many` of; `id` of a row is its number.
FILL = {
    "tenants": """
INSERT INTO auth_group (id, name) SELECT 1000000 + n, 'many-' || n FROM generate_series(1, %(many)s / 100) AS n;
INSERT INTO tenants_tenant (id, slug, name, is_publisher, created_at, group_id)
SELECT md5('tenant' || n)::uuid, 'many-' || n, 'Many ' || n, false, now(), 1000000 + n
  FROM generate_series(1, %(many)s / 100) AS n""",
    "models": """
INSERT INTO catalog_mlmodel (id, publisher_id, name, display_name, summary, card, task, tags, license, visibility,
                             subscriber_count, created_at, updated_at, canary_percent, shadow_percent, takedown_reason)
SELECT md5('model' || n)::uuid, %(publisher)s, 'many-' || n, 'Many ' || n, 'One of many.', '', 'OTHER', '{}', 'MIT',
       'PUBLIC', 0, now(), now(), 0, 0, '' FROM generate_series(1, %(many)s / 10) AS n""",
    "versions": """
INSERT INTO catalog_modelversion
SELECT (jsonb_populate_record(v, jsonb_build_object(
           'id', md5('version' || n)::uuid, 'model_id', md5('model' || n)::uuid,
           'status', 'READY', 'released_at', null))).*
  FROM catalog_modelversion v, generate_series(1, %(many)s / 10) AS n WHERE v.id = %(version)s""",
    "plans": """
INSERT INTO subscriptions_plan
SELECT (jsonb_populate_record(p, jsonb_build_object('id', md5('plan' || n)::uuid, 'line', md5('plan' || n)::uuid,
                                                    'model_id', md5('model' || n)::uuid))).*
  FROM subscriptions_plan p, generate_series(1, %(many)s / 10) AS n WHERE p.id = %(plan)s""",
    "subscriptions": """
INSERT INTO subscriptions_modelsubscription (id, tenant_id, model_id, plan_id, status, created_at, pinned_version_id)
SELECT md5('subscription' || n)::uuid, md5('tenant' || n)::uuid, %(model)s, %(plan)s, 'ACTIVE',
       now() - n * interval '1 second', %(version)s FROM generate_series(1, %(many)s / 100) AS n""",
    "requests": """
INSERT INTO subscriptions_modelsubscriptionrequest (id, tenant_id, model_id, plan_id, status, message, reason,
                                                    created_at)
SELECT md5('request' || n)::uuid, md5('tenant' || 1 + n %% (%(many)s / 100))::uuid, %(model)s, %(plan)s, 'DECLINED',
       '', '', now() FROM generate_series(1, %(many)s / 10) AS n""",
    "events": """
INSERT INTO catalog_releaseevent (model_id, version_id, kind, reason, at)
SELECT %(model)s, %(version)s, 'DEPRECATED', '', now() - n * interval '1 second'
  FROM generate_series(1, %(many)s) AS n""",
    "uploads": """
INSERT INTO publishing_upload (id, tenant_id, status, size_bytes, received_bytes, tip, parts_id, declared_sha256,
                               sha256, created_at, expires_at)
SELECT md5('upload' || n)::uuid, %(publisher)s, 'USED', 5, 5, md5('upload' || n)::uuid, '', '',
       md5('a' || n) || md5('b' || n), now(), now() + interval '1 day' FROM generate_series(1, %(many)s) AS n""",
}
EMPTY = {
    "publishing_upload": "sha256 <> ''",
    "catalog_releaseevent": "kind = 'DEPRECATED'",
    "subscriptions_modelsubscriptionrequest": "true",
    "subscriptions_modelsubscription": "true",
    "subscriptions_plan": "id <> %(plan)s",
    "catalog_modelversion": "id <> %(version)s",
    "catalog_mlmodel": "id <> %(model)s",
    "tenants_tenant": "slug LIKE 'many-%%'",
    "auth_group": "name LIKE 'many-%%'",
}

RELEASES = 'model(ref: "openlab/digits") { releases(first: 20) { edges { node { kind at version { number } } } } }'
REQUESTS = 'model(ref: "openlab/digits") { subscriptionRequests(first: 20) { edges { node { status } } } }'
VERSIONS = 'model(ref: "openlab/digits") { versions(first: 20) { edges { node { number } } } }'
LIVE_AT = 'model(ref: "openlab/digits") { versionLiveAt(at: "2026-01-01T00:00:00Z") { number } }'
MODELS = 'publisher(slug: "openlab") { models(first: 20) { edges { node { ref } } } }'
PANEL = ["catalog/mlmodel", "catalog/modelversion", "catalog/mlmodelgroupobjectpermission", "subscriptions/plan"]
PANEL += ["subscriptions/modelsubscription", "subscriptions/modelsubscriptionrequest", "subscriptions/dailyusage"]
STAFF = ["catalog/mlmodel", "catalog/modelversion", "catalog/releaseevent", "tenants/tenant", "subscriptions/plan"]
STAFF += ["subscriptions/modelsubscription", "subscriptions/modelsubscriptionrequest"]


class House:
    def __init__(self) -> None:
        self.openlab = factories.tenant("openlab", is_publisher=True)
        self.model = factories.model(self.openlab, "digits")
        self.version = factories.version(self.model)
        self.plan = factories.plan(self.model)
        self.publisher, self.operator = Client(HTTP_HOST="localhost"), Client(HTTP_HOST="localhost")
        self.publisher.force_login(factories.member(self.openlab), backend=BACKEND)
        self.operator.force_login(factories.user(is_staff=True, is_superuser=True), backend=BACKEND)

    def fill(self, many: int) -> None:
        ids = {"publisher": self.openlab.pk, "model": self.model.pk, "version": self.version.pk, "plan": self.plan.pk}
        with connection.cursor() as cursor:
            for table, which in EMPTY.items():
                cursor.execute(f"DELETE FROM {table} WHERE {which}", ids)  # noqa: S608  (constants)
            for rows in FILL.values():
                for statement in rows.split(";"):
                    cursor.execute(statement, ids | {"many": many})
            cursor.execute("VACUUM ANALYZE")

    def lists(self) -> dict[str, Callable[[], object]]:
        documents = {
            "a model's releases": RELEASES,
            "its requests": REQUESTS,
            "its versions": VERSIONS,
            "its live version then": LIVE_AT,
            "a publisher's models": MODELS,
        }
        asked: dict[str, Callable[[], object]] = {}
        for name, document in documents.items():
            asked[name] = lambda document=document: self.ask(document)
        asked["panel: overview"] = lambda: self.visit(self.publisher, "/publish/")
        for page in PANEL:
            asked[f"panel: {page}"] = lambda page=page: self.visit(self.publisher, f"/publish/{page}/")
        for page, row in (("mlmodel", self.model), ("modelversion", self.version)):
            path = f"/publish/catalog/{page}/{row.pk}/change/"
            asked[f"panel: a {page}"] = lambda path=path: self.visit(self.publisher, path)
        for page in ("subscriptions/plan", "catalog/mlmodelgroupobjectpermission"):
            asked[f"panel: add {page}"] = lambda page=page: self.visit(self.publisher, f"/publish/{page}/add/")
        for page in STAFF:
            asked[f"staff: {page}"] = lambda page=page: self.visit(self.operator, f"/admin/{page}/")
        asked["an upload's beginning"] = self.upload
        return asked

    def ask(self, document: str) -> None:
        body = {"query": f"{{ {document} }}"}
        answer = self.publisher.post("/graphql", body, "application/json", headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 200, answer.content
        assert "errors" not in answer.json(), answer.json()

    def visit(self, browser: Client, path: str) -> None:
        assert browser.get(path).status_code == 200, path

    def upload(self) -> None:
        uploads.create(factories.principal(self.openlab), size_bytes=5)


def measured(ask: Callable[[], object]) -> tuple[int, float]:
    """How many queries, and the median in milliseconds."""
    ask()
    with patch.object(CursorWrapper, "execute", autospec=True, side_effect=CursorWrapper.execute) as queries:
        ask()  # in whichever thread
    times = []
    for _ in range(RUNS):
        started = perf_counter()
        ask()
        times.append((perf_counter() - started) * 1000)
    return queries.call_count, median(times)


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    # Nobody has collected static files here.
    settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
    call_command("migrate", verbosity=0)
    house = House()
    found = []
    for many in (most // 100, most):
        started = perf_counter()
        house.fill(many)
        print(f"{many:,} release events, filled in {perf_counter() - started:.0f} s", flush=True)
        found.append({name: measured(ask) for name, ask in house.lists().items()})
    print(f"{'':48} {'queries':>7} {most // 100:>10,} {most:>10,} {'ratio':>7}")
    for name, (queries, few) in found[0].items():
        again, many_ms = found[1][name]
        grown = "" if again == queries else f"  {again} QUERIES"
        print(f"{name:48} {queries:7} {few:7.1f} ms {many_ms:7.1f} ms {many_ms / few:7.1f}{grown}")


if __name__ == "__main__":
    main()
