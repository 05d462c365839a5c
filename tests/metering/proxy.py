"""Metering's way to PostgreSQL, led through a proxy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from marketplace.metering.admission import idle
from tests.proxy import Proxy


@contextlib.asynccontextmanager
async def proxied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """Metering's connections lead through the proxy; Django's own, once open, do not."""
    host, port = connection.settings_dict["HOST"], connection.settings_dict["PORT"] or "5432"
    proxy = Proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port)))
    await proxy.serve(str(folder / ".s.PGSQL.5432"))
    monkeypatch.setitem(connection.settings_dict, "HOST", str(folder))
    monkeypatch.setitem(connection.settings_dict, "PORT", "")
    try:
        yield proxy
    finally:
        monkeypatch.undo()
        await proxy.go_away()


async def under_way(proxy: Proxy, call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """The call's task, once PostgreSQL has answered it and its caller has not heard yet."""
    await idle()
    proxy.pause()
    task = asyncio.ensure_future(call)
    await proxy.held_back.wait()
    return task
