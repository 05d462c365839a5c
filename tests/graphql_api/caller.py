"""Somebody who calls /graphql: with a key, with a browser's session, or as nobody."""

import json
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from marketplace.tenants.models import User


@dataclass
class Caller:
    key: str | None = None
    user: User | None = None
    client: Client = field(default_factory=Client)

    def __post_init__(self) -> None:
        if self.user is not None:
            self.client.force_login(self.user)

    def post(self, body: Any, **headers: str) -> Any:
        """The raw response; `body` is sent as it is when it is bytes, else as JSON."""
        return self.client.post("/graphql", **self._request(body, headers))

    async def apost(self, body: Any, **headers: str) -> Any:
        """The same within this event loop, as what decides on connections of its own must be called."""
        client = AsyncClient()
        client.cookies = self.client.cookies
        return await client.post("/graphql", **self._request(body, headers))

    def _request(self, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        if self.key is not None:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        content_type = headers.pop("content_type", "application/json")
        return {"data": content, "content_type": content_type, "headers": headers}

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """The whole answer: `data`, `errors`."""
        answer: dict[str, Any] = self.post({"query": document, "variables": variables}).json()
        return answer

    async def aask(self, document: str, **variables: Any) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.apost({"query": document, "variables": variables})).json()
        return answer

    async def astream(self, document: str, **variables: Any) -> list[dict[str, Any]]:
        """The answers of a subscription."""
        body = {"query": document, "variables": variables}
        response = await self.apost(body, Accept="text/event-stream")
        content = b"".join([part async for part in response])
        lines = content.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    def data(self, document: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        answer = self.ask(document, **variables)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def error(self, document: str, **variables: Any) -> dict[str, Any]:
        """The first top-level error of an answer."""
        return dict(self.ask(document, **variables)["errors"][0])

    def queries(self, document: str, **variables: Any) -> list[str]:
        """The statements that answering takes, but for those that find out who asks."""
        with CaptureQueriesContext(connection) as captured:
            self.data(document, **variables)
        who = ('FROM "django_session"', 'FROM "tenants_apikey" INNER JOIN', 'UPDATE "tenants_apikey"')
        return [query["sql"] for query in captured if not any(part in query["sql"] for part in who)]


def nodes(connection_answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [edge["node"] for edge in connection_answer["edges"]]
