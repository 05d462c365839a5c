"""The unmodified `openai` package against the site, its own retries off unless a test is about them."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from tests.doors.site import Site

# By a name in `site.keys`, or a key itself.
Client = Callable[..., OpenAI]
AsyncClient = Callable[..., AsyncOpenAI]


def _options(site: Site, who: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": f"{site.url}/v1", "api_key": site.keys.get(who, who), "max_retries": 0, **options}


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with ExitStack() as opened:
        yield lambda who="subscriber", **options: opened.enter_context(OpenAI(**_options(site, who, options)))


@pytest_asyncio.fixture
async def async_client(site: Site) -> AsyncIterator[AsyncClient]:
    async with AsyncExitStack() as opened:

        def made(who: str = "subscriber", **options: Any) -> AsyncOpenAI:
            one = AsyncOpenAI(**_options(site, who, options))
            opened.push_async_exit(one)
            return one

        yield made
