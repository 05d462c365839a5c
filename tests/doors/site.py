"""The marketplace as its clients meet it: processes and a database of its own, and who may call what there.

`openlab` publishes, `acme` has subscribed to everything, `globex` to nothing. What is there:
`openlab/add`, `digits`, `minilm`, `sentiment`, `tumour`: the demo's;
`openlab/identity`: for each datatype but BF16 an input `in_<datatype>` [-1, 2] that comes out as `out_<datatype>`;
`openlab/identity-bf16`: BF16 alone; `openlab/scalar`: `in_FP32` [1], which the graph has as a scalar;
`openlab/lookup`: fails for an `index` outside 0, 1, 2; `openlab/slow`: `turns` as many as one likes;
`openlab/secret`: as add, private, and granted to acme; `openlab/unloaded`: as add, and on no server.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import psycopg
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import load_backend
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

from marketplace.access import TenantRole
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.embedded.process import PROJECT
from marketplace.metering.models import Hold
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.ports import free_port

T = TypeVar("T")

HOST = "127.0.0.1"
# How long a process may take to answer for the first time, on a machine with other things to do.
PATIENCE = 60


@dataclass(frozen=True)
class Server:
    """A running process of the marketplace. `http` and `grpc` as host:port."""

    process: "subprocess.Popen[bytes]"
    http: str
    grpc: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.http}"


def manage(environment: Mapping[str, str], *words: str) -> None:
    subprocess.run([sys.executable, str(PROJECT / "manage.py"), *words], env={**os.environ, **environment}, check=True)


@contextmanager
def serving(environment: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """Starts a process of the marketplace and stops it; fails with what it said when it does not answer."""
    http, grpc = free_port(), free_port()
    log = folder / f"server-{http}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.doors.server"],
            cwd=PROJECT,
            env={**os.environ, **environment, "HOST": HOST, "PORT": str(http), "GRPC_PORT": str(grpc)},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(f"http://{HOST}:{http}/healthz", process, log)
        yield Server(process, f"{HOST}:{http}", f"{HOST}:{grpc}", log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"The server does not answer. It said:\n{log.read_text()[-4000:]}")


class Database:
    """A database of its own, on the server that the tests run beside: tests that empty the tables never meet it."""

    def __init__(self, server: str, blocker: DjangoDbBlocker) -> None:
        self.name = f"site_{uuid4().hex}"
        self.url = make_conninfo(server, dbname=self.name)
        self._server = server
        self._blocker = blocker
        self._worker = ThreadPoolExecutor(1, initializer=self._connect)

    def create(self) -> None:
        with psycopg.connect(self._server, autocommit=True) as db:
            db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))

    def drop(self) -> None:
        self._worker.submit(connections.close_all).result()
        self._worker.shutdown()
        with psycopg.connect(self._server, autocommit=True) as db:
            # Not by force, which may not end an autovacuum: PostgreSQL asks that to go, and waits for the rest to end.
            db.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(self.name)))

    def _connect(self) -> None:
        """Django keeps its connections by thread: to this one, the default database is this one."""
        ours = {**connections.settings[DEFAULT_DB_ALIAS], "NAME": self.name}
        ours["OPTIONS"] = {name: value for name, value in ours["OPTIONS"].items() if name != "pool"}
        connections[DEFAULT_DB_ALIAS] = load_backend(ours["ENGINE"]).DatabaseWrapper(ours, DEFAULT_DB_ALIAS)

    def run(self, work: Callable[[], T]) -> T:
        """The answer of `work`, which may use the ORM: from tests with an event loop and from those without."""

        def unblocked() -> T:
            # Its ids are another database's, before and after.
            ContentType.objects.clear_cache()
            try:
                with self._blocker.unblock():
                    return work()
            finally:
                ContentType.objects.clear_cache()

        return self._worker.submit(unblocked).result()


@dataclass(frozen=True)
class Site:
    """`keys`: of `owner` (openlab), `subscriber` and `viewer` (acme), `stranger` (globex); `revoked` and `expired`
    (acme's). `triton_http` and `triton_grpc`: the Triton behind it all, as host:port."""

    server: Server
    keys: Mapping[str, str]
    triton_http: str
    triton_grpc: str
    environment: Mapping[str, str]
    folder: Path
    database: Database

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def http(self) -> str:
        return self.server.http

    @property
    def grpc(self) -> str:
        return self.server.grpc

    def headers(self, who: str) -> dict[str, str]:
        """`who` is a name in `keys`, or a key itself."""
        return {"Authorization": f"Bearer {self.keys.get(who, who)}"}

    @contextmanager
    def another_server(self, **environment: str) -> Iterator[Server]:
        """A further process on the same database, with settings of its own."""
        with serving({**self.environment, **environment}, self.folder) as server:
            yield server

    def records(self, work: Callable[[], T]) -> T:
        """As Database.run."""
        return self.database.run(work)

    def version(self, ref: str, number: int | None = None) -> ModelVersion:
        """Its model and publisher are joined. The live one without a number."""

        def found() -> ModelVersion:
            versions = ModelVersion.objects.select_related("model__publisher")
            model = MLModel.objects.by_ref(ref).get()
            return versions.get(model=model, **({"status": "LIVE"} if number is None else {"number": number}))

        return self.records(found)

    def customer(self, ref: str, *, role: TenantRole = TenantRole.DEVELOPER, **terms: Any) -> str:
        """The key of a new tenant that has subscribed to `ref` on a plan of these terms (`tests.factories.plan`)."""

        def subscribed() -> str:
            tenant = factories.tenant()
            factories.subscription(tenant, factories.plan(MLModel.objects.by_ref(ref).get(), **terms))
            return factories.api_key(tenant, role)

        return self.records(subscribed)

    def holds(self, key: str) -> list[Hold]:
        """The calls of the key's tenant, oldest first."""

        def found() -> list[Hold]:
            tenant = ApiKey.objects.get(digest=keys.digest(self.keys.get(key, key))).tenant_id
            return list(Hold.objects.filter(tenant=tenant).order_by("id"))

        return self.records(found)
