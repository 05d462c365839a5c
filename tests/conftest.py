"""What every test stands on: the servers that `make test` started, and connections closed behind each test."""

from collections.abc import AsyncIterator, Iterator
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections as django_connections
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from inference import gateway
from marketplace.config.environment import Environment
from marketplace.metering import connections
from tests.emptying import empty
from tests.patience import have_patience
from tests.ports import free_port


def pytest_configure(config: pytest.Config) -> None:
    environment = Environment()
    if not (environment.database_url and environment.valkey_url and environment.triton_urls):
        raise pytest.UsageError(
            "The tests need PostgreSQL, Valkey and Triton. Run `make test`, or for one file: "
            "`.venv/bin/python -m marketplace.embedded exec -- .venv/bin/pytest tests/metering`"
        )


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Tables are emptied behind each test, the ledger too, which refuses that to everybody else."""
    options = settings.DATABASES["default"]["OPTIONS"]
    options["options"] += " -c marketplace.allow_truncate=on"


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A pool's own thread may be opening a connection at the very end, and a database in use cannot be dropped."""
    yield
    with django_db_blocker.unblock(), django_connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(scope="session", autouse=True)
def _tables_are_emptied() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: empty())
        yield


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    """Its address. It keeps everything in memory, and lets anybody in."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  (it takes a second, and few tests need it)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket on a server of its own, as OBJECT_STORE_URL has it."""
    for name, value in {"AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid4().hex}"
    with urlopen(Request(f"{_s3_server}/{name}", method="PUT")) as created:
        assert created.status == 200
    return f"s3://{name}/artefacts?endpoint_url={_s3_server}&region=us-east-1"


@pytest.fixture
def unused_tcp_port() -> int:
    return free_port()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls have time to wait for PostgreSQL."""
    have_patience(monkeypatch.setattr)


@pytest_asyncio.fixture(autouse=True)
async def _no_connection_outlives_a_test() -> AsyncIterator[None]:
    yield
    await connections.close()
    await gateway.close()
    # The thread that async code reaches the ORM through keeps a connection of its own.
    await sync_to_async(django_connections.close_all)()
