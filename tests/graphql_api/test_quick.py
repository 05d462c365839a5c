"""What is answered ahead of Django is answered as Django's view answers it; the rest goes to the view as it came."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.utils import timezone

import inference.invocation
from graphql_api.limits import MAX_ANONYMOUS_BODY_BYTES
from graphql_api.quick import QuickPath
from inference import versions
from inference.deployment import reconciler
from marketplace.access import TenantRole
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.config.asgi import pages
from marketplace.hints import Hints
from marketplace.metering.admission import ADMIT, SETTLE
from marketplace.metering.models import Hold
from marketplace.objects.folder import Folder
from marketplace.subscriptions.models import ModelSubscription
from marketplace.tenants.models import ApiKey, Tenant
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"
ADD = Path(__file__).parent.parent.parent / "demo/catalogue/add/v1.onnx"

INVOKE = """
mutation ($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { status units outputs { name datatype shape data base64 } }
    errors { __typename code message path ... on ModelUnavailable { retryAfterMs } }
  }
}"""
INPUTS = [
    {"name": name, "datatype": "FP32", "shape": [1], "data": [value]} for name, value in (("A", 1.5), ("B", 2.25))
]


def call(**change: Any) -> dict[str, Any]:
    return {"query": INVOKE, "variables": {"input": {"model": "openlab/add", "inputs": INPUTS} | change}}


class Site:
    """openlab/add, loaded nowhere, and acme's keys: of a developer, a viewer, one revoked and one expired."""

    def __init__(self, objects: Path) -> None:
        self.heard = 0
        openlab = factories.tenant("openlab", is_publisher=True)
        acme = factories.tenant("acme")
        sha256, size = Folder(objects).put(ADD)
        model = factories.model(openlab, "add")
        factories.version(model, sha256=sha256, size_bytes=size)
        factories.subscription(acme, factories.plan(model))
        self.key = factories.api_key(acme)
        self.keys = {
            "developer": self.key,
            "viewer": factories.api_key(acme, TenantRole.VIEWER),
            "stranger": factories.api_key(factories.tenant("globex")),
            "revoked": factories.api_key(acme, name="revoked"),
            "expired": factories.api_key(acme, name="expired"),
            "mistyped": self.key[:-1] + ("a" if self.key[-1] != "a" else "b"),
            "nonsense": "nonsense",
        }
        ApiKey.objects.filter(name="revoked").update(revoked_at=timezone.now())
        ApiKey.objects.filter(name="expired").update(expires_at=timezone.now() - timedelta(seconds=1))

    async def django(self, scope: Any, receive: Any, send: Any) -> None:
        self.heard += 1
        await pages(scope, receive, send)

    async def send(self, app: Any, content: Any, method: str = "POST", **headers: str) -> httpx.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = {"Content-Type": JSON, "Authorization": f"Bearer {self.key}"} | headers
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
            client.headers.clear()
            return await client.request(
                method, "/graphql", content=body, headers={n.replace("_", "-"): v for n, v in sent.items() if v}
            )

    async def both(self, content: Any, method: str = "POST", **headers: str) -> tuple[httpx.Response, bool]:
        """The answer, which is the same on both ways, and whether it was given without Django."""
        quick = await self.send(QuickPath(self.django), content, method, **headers)
        ahead = self.heard == 0
        view = await self.send(self.django, content, method, **headers)
        assert quick.status_code == view.status_code
        assert sorted(quick.headers.multi_items()) == sorted(view.headers.multi_items())
        assert quick.content == view.content
        return quick, ahead


@pytest_asyncio.fixture
async def site(settings: Any, tmp_path: Path, transactional_db: None) -> Site:
    settings.OBJECTS_DIR = tmp_path
    return await sync_to_async(Site)(tmp_path)


@pytest_asyncio.fixture
async def running(site: Site) -> AsyncIterator[Site]:
    await reconciler.reconcile()
    yield site
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


async def test_a_call_is_answered_ahead_of_django_as_the_view_answers_it(running: Site) -> None:
    answer, ahead = await running.both(call())

    assert ahead
    assert answer.json()["data"]["invokeModel"]["invocation"]["outputs"][0]["data"] == [3.75]
    assert [hold.charged async for hold in Hold.objects.all()] == [1, 1]


@pytest.mark.parametrize("who", ["developer", "viewer", "stranger", "revoked", "expired", "mistyped", "nonsense"])
async def test_every_key_is_answered_alike(site: Site, who: str) -> None:
    answer, ahead = await site.both(call(), Authorization=f"Bearer {site.keys[who]}")

    assert ahead
    assert answer.status_code == (200 if who in ("developer", "viewer", "stranger") else 401)


@pytest.mark.parametrize(
    "change", [{"model": "openlab/nothing"}, {"inputs": []}, {"version": 9}, {"idempotencyKey": ""}], ids=str
)
async def test_expected_failures_are_answered_alike(site: Site, change: dict[str, Any]) -> None:
    answer, ahead = await site.both(call(**change))

    assert ahead
    assert answer.json()["data"]["invokeModel"]["errors"]


@pytest.mark.parametrize("accept", ["", "*/*", JSON, GRAPHQL, f"{GRAPHQL}, {JSON};q=0.9"])
async def test_the_media_type_is_chosen_alike(site: Site, accept: str) -> None:
    assert (await site.both(call(), Accept=accept))[1]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (call(), {"Accept": "text/plain"}, 406),
        (call(), {"Content_Type": "text/plain"}, 415),
        (call(), {"Content_Type": "application/json;charset=utf8"}, 200),
        (call(), {"Authorization": "Basic abc"}, 401),
        (call(), {"Authorization": "Bearer "}, 401),
        (call(), {"Authorization": ""}, 200),
        (call(), {"Host": "elsewhere.example"}, 400),
        (call(inputs="x"), {}, 200),
        (call(inputs="x"), {"Accept": GRAPHQL}, 400),
        (call() | {"operationName": "other"}, {}, 200),
        (call() | {"extensions": 5}, {}, 400),
        (call() | {"variables": 5}, {}, 400),
        ({"query": "{ viewer { tenant { slug } } }"}, {}, 200),
        ({"query": "mutation { nothing }"}, {"Accept": GRAPHQL}, 400),
        ([call()], {}, 400),
        (b"", {}, 400),
        (b"{", {}, 400),
        (b'{"query": "\\ud800"}', {}, 400),
        (call() | {"padding": "x" * MAX_ANONYMOUS_BODY_BYTES}, {}, 200),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_unusual_is_left_to_the_view(
    site: Site, content: Any, headers: dict[str, str], status: int
) -> None:
    answer, ahead = await site.both(content, **headers)

    assert not ahead
    assert answer.status_code == status


async def test_another_method_is_left_to_the_view(site: Site) -> None:
    assert (await site.both(b"", "PUT"))[0].status_code == 405


# ---------------------------------------------------------------- what is remembered of the last call

BROKEN = call(inputs=[{"name": "A", "datatype": "FP32", "shape": [1], "data": ["x"]}])


def revoke() -> None:
    ApiKey.objects.update(revoked_at=timezone.now())


def expire() -> None:
    ApiKey.objects.update(expires_at=timezone.now())


def forget_the_key() -> None:
    ApiKey.objects.all().delete()


def make_a_viewer() -> None:
    ApiKey.objects.update(role=TenantRole.VIEWER)


def retire() -> None:
    ModelVersion.objects.update(status="RETIRED")


def take_from_the_public() -> None:
    MLModel.objects.update(visibility="PRIVATE")


def rename() -> None:
    MLModel.objects.update(name="sum")


def put_another_in_its_place() -> None:
    """Under the old one's reference: another live version, with another signature, of another model."""
    rename()
    old = MLModel.objects.get()
    new = factories.version(factories.model(old.publisher, "add"))
    new.tensors.filter(name="B").update(name="C")
    factories.subscription(Tenant.objects.get(slug="acme"), factories.plan(new.model))


def release_another() -> None:
    old = ModelVersion.objects.get()
    ModelVersion.objects.update(status="READY")
    factories.version(old.model, 2).tensors.filter(name="B").update(name="C")


def another_beside_it() -> ModelVersion:
    old = ModelVersion.objects.get()
    new = factories.version(old.model, 2, status="READY")
    new.tensors.filter(name="B").update(name="C")
    return new


def begin_a_canary() -> None:
    MLModel.objects.update(canary_version=another_beside_it(), canary_percent=100)


def pin_another() -> None:
    ModelSubscription.objects.update(pinned_version=another_beside_it())


CHANGES = [
    revoke,
    expire,
    forget_the_key,
    make_a_viewer,
    retire,
    take_from_the_public,
    rename,
    put_another_in_its_place,
    release_another,
    begin_a_canary,
    pin_another,
]


@pytest.mark.parametrize("content", [call(), call(version=1), BROKEN], ids=["live", "numbered", "broken"])
@pytest.mark.parametrize("change", CHANGES)
async def test_what_changed_since_the_last_call_is_answered_as_if_there_had_been_none(
    site: Site, change: Callable[[], None], content: dict[str, Any]
) -> None:
    """The change is made past this process's memory, as another process makes it."""
    await site.send(QuickPath(site.django), call())
    await site.send(QuickPath(site.django), call(version=1))

    await sync_to_async(change)()
    _answer, ahead = await site.both(content)

    assert ahead
    assert not await Hold.objects.filter(state="held").aexists()


async def test_the_second_call_asks_for_admission_and_settlement_and_nothing_else(
    running: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where it is loaded is asked for once a second, and who knows how long this takes.
    monkeypatch.setattr(versions, "_endpoints", Hints(most=10, seconds=600))
    await running.send(QuickPath(running.django), call())
    asked = []
    execute = psycopg.AsyncConnection.execute

    async def noted(db: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(query)
        return await execute(db, query, *arguments, **named)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", noted)
    answer = await running.send(QuickPath(running.django), call())

    assert answer.json()["data"]["invokeModel"]["invocation"]["outputs"][0]["data"] == [3.75]
    assert asked == [ADMIT, SETTLE]


@pytest.mark.parametrize("change", [release_another, begin_a_canary, pin_another])
async def test_calls_go_to_the_version_that_answers_by_now(site: Site, change: Callable[[], None]) -> None:
    await site.send(QuickPath(site.django), call())

    await sync_to_async(change)()
    inputs = [INPUTS[0], INPUTS[1] | {"name": "C"}]
    await site.send(QuickPath(site.django), call(inputs=inputs))
    await site.send(QuickPath(site.django), call(inputs=inputs))

    holds = Hold.objects.order_by("created_at").values_list("version__number", flat=True)
    assert [number async for number in holds] == [1, 2, 2]


async def test_the_use_of_a_key_is_noted(site: Site) -> None:
    await site.send(QuickPath(site.django), call())

    assert (await ApiKey.objects.aget(role=TenantRole.DEVELOPER, name="test", tenant__slug="acme")).last_used_at


async def test_a_caller_who_hangs_up_cancels_the_call(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    running, cancelled = asyncio.Event(), asyncio.Event()

    async def invoke(*_arguments: Any, **_named: Any) -> Any:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(inference.invocation, "invoke", invoke)
    body = json.dumps(call()).encode()
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        await running.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {
        "host": "testserver",
        "content-type": JSON,
        "content-length": str(len(body)),
        "authorization": f"Bearer {site.key}",
    }
    scope = {"type": "http", "method": "POST", "path": "/graphql", "scheme": "http"}
    await QuickPath(site.django)(
        scope | {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}, receive, send
    )

    assert cancelled.is_set()
    assert sent == []
    assert site.heard == 0
