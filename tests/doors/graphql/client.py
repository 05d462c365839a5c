"""Plain clients of the two protocols that GraphQL streams by, and somebody signed in with a browser."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import websockets
from django.conf import settings
from django.test import Client, override_settings
from django.utils.crypto import get_random_string
from websockets.asyncio.client import ClientConnection

from marketplace.metering.models import Hold, HoldState, Quota
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey, Tenant
from tests import factories
from tests.doors.site import Server, Site

TALK = """
subscription ($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    __typename
    ... on InvocationChunk { sequence invocationId outputs { name data } }
    ... on InvokeModelPayload {
      invocation { id status units unit version { number } outputs { name } }
      errors { __typename code message path }
    }
  }
}"""
PROMPT = "say"


def talk(model: str = "openlab/talker", prompt: str = PROMPT, **parameters: Any) -> dict[str, Any]:
    """What a request asks for; each parameter is the model's own."""
    text = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [prompt]}
    return {"query": TALK, "variables": {"input": {"model": model, "inputs": [text], "parameters": parameters}}}


def said(event: dict[str, Any]) -> str:
    """The text of a chunk."""
    outputs = event["data"]["invokeModel"]["outputs"]
    return str(next(output["data"][0] for output in outputs if output["name"] == "text_output"))


def payload(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = event["data"]["invokeModel"]
    assert found["__typename"] == "InvokeModelPayload", found
    return found


class Events:
    """The events of a text/event-stream, as a browser reads them. Comments are kept in `comments`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    async def __aiter__(self) -> AsyncIterator[tuple[str, Any]]:
        name, data = "message", []
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                text = "\n".join(data)
                yield name, json.loads(text) if text else None
                name, data = "message", []


@contextlib.asynccontextmanager
async def sse(
    site: Site | Server, body: Any, *, cookies: httpx.Cookies | None = None, **headers: str
) -> AsyncIterator[Events]:
    """`body` by POST, or by GET when `method` says so."""
    method = headers.pop("method", "POST")
    accept = {"Accept": "text/event-stream"} | {name.replace("_", "-"): value for name, value in headers.items()}
    sent = (
        {"json": body}
        if method == "POST"
        else {"params": {key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}}
    )
    async with (
        httpx.AsyncClient(cookies=cookies) as client,
        client.stream(method, f"{site.url}/graphql", headers=accept, timeout=60, **sent) as response,
    ):
        yield Events(response)


async def everything(site: Site | Server, body: Any, **options: Any) -> list[tuple[str, Any]]:
    async with sse(site, body, **options) as events:
        return [event async for event in events]


class Socket:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def tell(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), 60))
        return message

    async def closed(self) -> tuple[int | None, str | None]:
        """The code and reason that the server closes with, whatever it says before."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self.hear()
        return self.connection.close_code, self.connection.close_reason


@contextlib.asynccontextmanager
async def raw_socket(site: Site | Server, path: str = "/graphql", **options: Any) -> AsyncIterator[Socket]:
    usual = {"subprotocols": ["graphql-transport-ws"], "max_queue": 1}
    async with websockets.connect(f"ws://{site.http}{path}", **usual | options) as connection:
        yield Socket(connection)


@contextlib.asynccontextmanager
async def socket(site: Site | Server, payload: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Socket]:
    """Acknowledged, with that payload of connection_init."""
    async with raw_socket(site, **options) as opened:
        await opened.tell(type="connection_init", **({"payload": payload} if payload else {}))
        assert await opened.hear() == {"type": "connection_ack"}
        yield opened


@contextlib.asynccontextmanager
async def browser(site: Site, tenant: str = "acme") -> AsyncIterator[httpx.AsyncClient]:
    """Somebody of the tenant's who is signed in. Their CSRF token is in the cookie csrftoken."""

    def signed_in() -> str:
        client = Client()
        # Sessions are made with the secret of the process that is to read them.
        with override_settings(SECRET_KEY=site.environment["SECRET_KEY"]):
            client.force_login(factories.member(Tenant.objects.get(slug=tenant)))
        return client.cookies[settings.SESSION_COOKIE_NAME].value

    cookies = {settings.SESSION_COOKIE_NAME: site.records(signed_in), "csrftoken": get_random_string(32)}
    async with httpx.AsyncClient(base_url=site.url, cookies=cookies) as client:
        yield client


def used(site: Site, key: str) -> tuple[int, int]:
    """Units of the key's tenant that are charged, and that are held."""

    def read() -> tuple[int, int]:
        tenant = ApiKey.objects.get(digest=keys.digest(site.keys.get(key, key))).tenant_id
        quotas = list(Quota.objects.filter(model_subscription__tenant=tenant))
        return int(sum(quota.settled for quota in quotas)), int(sum(quota.held for quota in quotas))

    return site.records(read)


def ended(site: Site, key: str) -> Hold:
    """The only call of the key's tenant, once it has ended."""
    while True:
        (hold,) = site.holds(key)
        if hold.state in (HoldState.SETTLED, HoldState.RELEASED):
            return hold
        time.sleep(0.05)


def witness(note: Path) -> int:
    """How many words the talker had said when it was done, or saw that nobody was listening."""
    while not note.exists():
        time.sleep(0.02)
    return int(note.read_text())
