"""`site`: a publisher and a reader on a running marketplace, with a worker that checks what is pushed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pytest_django import DjangoDbBlocker

from marketplace.access import TenantRole
from marketplace.config.environment import Environment
from tests import factories
from tests.doors.site import Database, manage, serving
from tests.worker import broker, working


@dataclass(frozen=True)
class Site:
    """openlab publishes openlab/digits; `stranger` is another publisher's key, `viewer` may only look."""

    url: str
    keys: dict[str, str]
    database: Database


@pytest.fixture(scope="session")
def site(django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cli")
    database = Database(Environment().database_url, django_db_blocker)
    database.create()
    try:
        with broker() as valkey:
            environment = {
                "DATABASE_URL": database.url,
                "DATA_DIR": str(folder),
                "SECRET_KEY": "cli",
                "VALKEY_URL": valkey,
                # Nothing is released to Triton here: what the worker would load there is nobody's business.
                "TRITON_URLS": "127.0.0.1:9",
            }
            manage(environment, "migrate", "-v0")
            keys = database.run(_put_up)
            with serving(environment, folder) as server, working(environment, folder):
                yield Site(server.url, keys, database)
    finally:
        database.drop()
        shutil.rmtree(folder / "objects", ignore_errors=True)


def _put_up() -> dict[str, str]:
    openlab, otherlab = (factories.tenant(slug, is_publisher=True) for slug in ("openlab", "otherlab"))
    factories.model(openlab, "digits")
    return {
        "owner": factories.api_key(openlab),
        "viewer": factories.api_key(openlab, TenantRole.VIEWER),
        "stranger": factories.api_key(otherlab),
    }
