"""`site`: the marketplace that the suites of all doors share; `tests/doors/site.py` says what is there.

It has a database of its own: tests that take it need neither `db` nor `transactional_db`, and reach its records
through `site.records`.
"""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus

import httpx
import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from demo import loading
from inference.formats import read_signature
from inference.models import Deployment, DeploymentStatus
from inference.tensors import Datatype
from marketplace.access import TenantRole
from marketplace.catalog.models import Direction, MLModel, Visibility
from marketplace.config.environment import Environment
from marketplace.embedded import runfile
from marketplace.objects import store
from marketplace.publishing import entries, releases, versions
from marketplace.subscriptions import actions as subscriptions
from marketplace.tenants.models import ApiKey, Tenant
from tests import factories
from tests.doors.site import Database, Server, Site, manage, serving
from tests.inference import graphs

MODELS = {
    "identity": graphs.identity([each for each in Datatype if each is not Datatype.BF16]),
    "identity-bf16": graphs.identity([Datatype.BF16]),
    "scalar": graphs.identity([Datatype.FP32], []),
    "lookup": graphs.lookup(),
    "slow": graphs.countdown(),
    "secret": graphs.add(),
    "unloaded": graphs.add(),
}


@pytest.fixture(scope="session")
def site(django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    given = Environment()
    database = Database(given.database_url, django_db_blocker)
    environment = {"DATABASE_URL": database.url, "DATA_DIR": str(folder), "SECRET_KEY": "doors"}
    triton_http = runfile.read(given.data_dir).get("triton", {}).get("http", "")
    database.create()
    try:
        manage(environment, "migrate", "-v0")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settings, "DATA_DIR", folder)
            patch.setattr(settings, "OBJECTS_DIR", folder / "objects")
            keys = database.run(_put_up)
        manage(environment, "reconcile", "--skip-checks")
        database.run(lambda: _nowhere("unloaded"))
        with serving(environment, folder) as server:
            yield Site(server, keys, triton_http, given.triton_urls.partition(",")[0], environment, folder, database)
    finally:
        database.drop()
        shutil.rmtree(folder / "objects", ignore_errors=True)  # 91 MB that pytest would keep


@pytest.fixture(autouse=True)
def loaded(request: pytest.FixtureRequest) -> None:
    """Triton 2.51 crashes now and then when streams are cut, and here no worker loads everything anew."""
    if "site" not in request.fixturenames:
        return
    site: Site = request.getfixturevalue("site")
    ready = f"http://{site.triton_http}/v2/models/{site.version('openlab/add').triton_name}/ready"
    transport = httpx.HTTPTransport(retries=8)  # as long as it takes to start
    with httpx.Client(transport=transport) as client:
        if client.get(ready).status_code != HTTPStatus.OK:
            manage(site.environment, "reconcile", "--skip-checks")


@pytest.fixture(scope="session")
def without_triton(site: Site) -> Iterator[Server]:
    """A server whose Triton is down, though it had openlab/add loaded."""
    nobody = "127.0.0.1:9"
    version = site.version("openlab/add")
    site.records(lambda: Deployment.objects.create(version=version, endpoint=nobody, status=DeploymentStatus.READY))
    with site.another_server(TRITON_URLS=nobody) as server:
        yield server
    site.records(lambda: Deployment.objects.filter(endpoint=nobody).delete())


@pytest.fixture(scope="session")
def without_records(site: Site) -> Iterator[Server]:
    """A server whose PostgreSQL is down."""
    with site.another_server(DATABASE_URL="host=127.0.0.1 port=9 user=nobody dbname=nothing") as server:
        yield server


def _put_up() -> dict[str, str]:
    """Publishes and subscribes; answers with the keys."""
    loading.load()
    openlab, acme, globex = (Tenant.objects.get(slug=slug) for slug in ("openlab", "acme", "globex"))
    for name, graph in MODELS.items():
        _publish(openlab, acme, name, graph)
    keys = {
        "owner": factories.api_key(openlab),
        "subscriber": factories.api_key(acme),
        "viewer": factories.api_key(acme, TenantRole.VIEWER),
        "stranger": factories.api_key(globex),
        "revoked": factories.api_key(acme, name="revoked"),
        "expired": factories.api_key(acme, name="expired"),
    }
    now = timezone.now()
    ApiKey.objects.filter(name="revoked").update(revoked_at=now)
    ApiKey.objects.filter(name="expired").update(expires_at=now - timedelta(seconds=1))
    return keys


def _publish(openlab: Tenant, acme: Tenant, name: str, graph: bytes) -> None:
    publisher = factories.principal(openlab)
    model = entries.create_model(
        publisher,
        name=name,
        display_name=name.title(),
        summary=f"For the tests of the doors: {name}.",
        license="Apache-2.0",
        visibility=Visibility.PRIVATE if name == "secret" else Visibility.PUBLIC,
    )
    signature = read_signature(graph)
    sha256, size = store().put(graph)
    version = versions.add_version(
        publisher,
        model=model,
        sha256=sha256,
        size_bytes=size,
        signature=[
            versions.Tensor(direction=direction, name=spec.name, datatype=spec.datatype, shape=spec.shape)
            for direction, specs in ((Direction.INPUT, signature.inputs), (Direction.OUTPUT, signature.outputs))
            for spec in specs
        ],
    )
    releases.release(publisher, version_id=version.pk)
    releases.promote_ready([version.pk])
    if name == "secret":
        factories.grant(model, acme)
    plan = factories.plan(model, name="Scale", included_units=1_000_000)
    subscriptions.subscribe(factories.principal(acme), model_ref=model.ref, plan_id=plan.pk)


def _nowhere(name: str) -> None:
    """Its version stays live, and no server has it: nothing reconciles while the tests run."""
    model = MLModel.objects.by_ref(f"openlab/{name}").get()
    model.live_version.deployments.all().delete()
