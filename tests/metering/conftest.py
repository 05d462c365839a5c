from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from marketplace.metering import connections
from marketplace.metering.admission import idle
from tests.proxy import Proxy

from .proxy import proxied


@pytest_asyncio.fixture(autouse=True)
async def _nothing_is_left_under_way() -> AsyncIterator[None]:
    yield
    await idle()


@pytest_asyncio.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> AsyncIterator[Proxy]:
    # A short path: the name of a Unix socket has no more than 107 bytes.
    with TemporaryDirectory() as folder:
        async with proxied(Path(folder), monkeypatch) as way:
            yield way
            way.resume()
            await idle()
            await connections.close()
