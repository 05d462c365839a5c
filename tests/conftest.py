"""What every test stands on: the servers that `make test` started, and connections closed behind each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from marketplace.config.environment import Environment
from marketplace.metering import connections


def pytest_configure(config: pytest.Config) -> None:
    environment = Environment()
    if not (environment.database_url and environment.valkey_url and environment.triton_urls):
        raise pytest.UsageError(
            "The tests need PostgreSQL, Valkey and Triton. Run `make test`, or for one file: "
            "`.venv/bin/python -m marketplace.embedded exec -- .venv/bin/pytest tests/metering`"
        )


@pytest_asyncio.fixture(autouse=True)
async def _no_connection_outlives_a_test() -> AsyncIterator[None]:
    yield
    await connections.close()
