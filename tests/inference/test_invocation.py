"""invoke(): check, admit, infer, settle. Whatever fails on the way costs nothing and leaves nothing held."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from pytest_django import Settings

from inference import dispatch, gateway
from inference.deployment import reconciler
from inference.invocation import Invocation, invoke
from inference.models import Deployment
from inference.tensors import RawTensor
from inference.versions import Place, endpoints_of
from marketplace.access import ANONYMOUS, Principal, TenantRole
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.errors import (
    DeadlineExceeded,
    IdempotencyConflict,
    MarketplaceError,
    ModelUnavailable,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    SubscriptionRequired,
    Unauthenticated,
    ValidationProblem,
)
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.objects.folder import Folder
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

ADD = Path(__file__).parent.parent.parent / "demo/catalogue/add/v1.onnx"


def vector(name: str, *values: float, **fields: Any) -> RawTensor:
    return RawTensor(**{"name": name, "datatype": "FP32", "shape": [len(values)], "data": list(values)} | fields)


INPUTS = [vector("A", 1.5), vector("B", 2.25)]


class Shop:
    """openlab/add, deployed; acme subscribed to it, and its developer."""

    def __init__(self, objects: Path) -> None:
        self.publisher = factories.tenant("openlab", is_publisher=True)
        self.consumer = factories.tenant("acme")
        self.model = factories.model(self.publisher, "add")
        sha256, size = Folder(objects).put(ADD)
        self.version = factories.version(self.model, sha256=sha256, size_bytes=size)
        self.plan = factories.plan(self.model, included_units=5)
        factories.subscription(self.consumer, self.plan)
        self.developer = factories.principal(self.consumer, TenantRole.DEVELOPER)

    async def call(self, principal: Principal | None = None, **arguments: Any) -> Invocation:
        return await invoke(principal or self.developer, **{"ref": "openlab/add", "inputs": INPUTS} | arguments)


@pytest_asyncio.fixture
async def undeployed(settings: Settings, tmp_path: Path, transactional_db: None) -> Shop:
    settings.OBJECTS_DIR = tmp_path
    return await sync_to_async(Shop)(tmp_path)


@pytest_asyncio.fixture
async def shop(undeployed: Shop) -> AsyncIterator[Shop]:
    await reconciler.reconcile()
    yield undeployed
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


async def nothing_happened() -> bool:
    """Nothing is charged, nothing is still held."""
    quotas = [quota async for quota in Quota.objects.all()]
    return all(q.held == q.settled == 0 for q in quotas) and not await LedgerEntry.objects.aexists()


async def test_a_call_is_answered_and_charged_once(shop: Shop) -> None:
    answer = await shop.call()

    assert answer.outputs is not None
    assert [(o.name, o.data()) for o in answer.outputs] == [("SUM", [3.75])]
    assert answer.version.pk == shop.version.pk
    quota = await Quota.objects.aget()
    hold = await Hold.objects.aget(pk=answer.id)
    assert (quota.settled, quota.held) == (1, 0)
    assert (hold.state, hold.charged, hold.tenant_id) == ("settled", 1, shop.consumer.pk)


async def test_concurrent_calls_are_each_answered_and_stop_at_the_limit(shop: Shop) -> None:
    outcomes = await asyncio.gather(*(shop.call() for _ in range(9)), return_exceptions=True)

    assert sum(isinstance(outcome, Invocation) for outcome in outcomes) == 5
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 4
    assert (await Quota.objects.aget()).settled == 5


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"inputs": [vector("A", 1.0)]}, "input.inputs"),
        ({"inputs": [*INPUTS, vector("C", 1.0)]}, "input.inputs.2.name"),
        ({"inputs": [vector("A", 1.0, datatype="INT32"), INPUTS[1]]}, "input.inputs.0.datatype"),
        ({"inputs": [vector("A", 1.0, shape=[1, 1]), INPUTS[1]]}, "input.inputs.0.shape"),
        ({"inputs": [vector("A", 1.0, shape=[10**12]), INPUTS[1]]}, "input.inputs.0.shape"),
        ({"inputs": [vector("A", float("nan")), INPUTS[1]]}, "input.inputs.0.data.0"),
        ({"outputs": ["PRODUCT"]}, "input.outputs.0"),
        ({"idempotency_key": ""}, "input.idempotencyKey"),
        ({"idempotency_key": "k" * 256}, "input.idempotencyKey"),
        ({"parameters": {"priority": 1}}, "input.parameters"),
    ],
)
async def test_bad_input_names_its_field_and_changes_nothing(shop: Shop, arguments: Any, path: str) -> None:
    with pytest.raises(ValidationProblem) as problem:
        await shop.call(**arguments)

    assert problem.value.path is not None
    assert problem.value.path.startswith(path)
    assert not await Hold.objects.aexists()


@pytest.mark.parametrize(
    ("who", "problem"),
    [
        ("anonymous", Unauthenticated),
        ("viewer", PermissionDenied),
        ("billing", PermissionDenied),
        ("stranger", SubscriptionRequired),
    ],
)
async def test_who_may_not_call_runs_nothing(undeployed: Shop, who: str, problem: type[MarketplaceError]) -> None:
    stranger = await sync_to_async(factories.tenant)("globex")
    principal = {
        "anonymous": ANONYMOUS,
        "viewer": factories.principal(undeployed.consumer, TenantRole.VIEWER),
        "billing": factories.principal(undeployed.consumer, TenantRole.BILLING),
        "stranger": factories.principal(stranger, TenantRole.OWNER),
    }[who]

    with pytest.raises(problem):
        await undeployed.call(principal)

    assert not await Hold.objects.aexists()


async def test_a_private_model_answers_strangers_as_a_missing_one(undeployed: Shop) -> None:
    await MLModel.objects.aupdate(visibility="PRIVATE")

    with pytest.raises(NotFound) as private:
        await undeployed.call()
    with pytest.raises(NotFound) as missing:
        await undeployed.call(ref="openlab/nothing")

    assert (private.value.message, private.value.path) == (missing.value.message, missing.value.path)


async def test_publishers_call_their_own_unreleased_versions_at_no_charge(shop: Shop) -> None:
    await ModelVersion.objects.aupdate(status="READY", released_at=None)
    pat = factories.principal(shop.publisher, TenantRole.OWNER)

    answer = await shop.call(pat, version=1)

    assert answer.outputs is not None
    assert {entry.amount async for entry in LedgerEntry.objects.all()} == {Decimal(0)}


@pytest.mark.parametrize("number", [0, 2, 2**31 - 1])
async def test_an_unknown_version_is_not_found(undeployed: Shop, number: int) -> None:
    with pytest.raises(NotFound) as problem:
        await undeployed.call(version=number)

    assert problem.value.path == "input.version"


async def test_a_version_that_was_never_released_is_not_there_for_consumers(undeployed: Shop) -> None:
    await sync_to_async(factories.version)(undeployed.model, 2, status="READY", released_at=None)

    with pytest.raises(NotFound):
        await undeployed.call(version=2)


async def test_a_model_without_a_live_version_is_unavailable(undeployed: Shop) -> None:
    await ModelVersion.objects.aupdate(status="READY")

    with pytest.raises(ModelUnavailable):
        await undeployed.call()


async def test_a_version_that_no_server_has_loaded_yet_is_unavailable_and_costs_nothing(undeployed: Shop) -> None:
    with pytest.raises(ModelUnavailable) as problem:
        await undeployed.call()

    assert problem.value.retry_after_ms
    assert await nothing_happened()


async def _deployed_at(shop: Shop, settings: Settings, *endpoints: str) -> None:
    settings.TRITON_URLS = list(endpoints)
    for endpoint in endpoints:
        await Deployment.objects.acreate(version=shop.version, endpoint=endpoint, status="READY")


async def test_a_server_that_is_down_makes_the_model_unavailable_and_gives_the_units_back(
    undeployed: Shop, settings: Settings, unused_tcp_port: int
) -> None:
    await _deployed_at(undeployed, settings, f"127.0.0.1:{unused_tcp_port}")

    with pytest.raises(ModelUnavailable):
        await undeployed.call()

    hold = await Hold.objects.aget()
    assert (hold.state, hold.released_because) == ("released", "MODEL_UNAVAILABLE")
    assert await nothing_happened()


@pytest_asyncio.fixture
async def silent_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Accepts connections and never says a word; the event is set once somebody has connected."""
    connected = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        connected.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", connected
    await gateway.close()
    for writer in writers:
        writer.close()
    server.close()


async def test_a_server_that_never_answers_is_given_up_at_the_deadline(
    undeployed: Shop, settings: Settings, silent_server: tuple[str, asyncio.Event]
) -> None:
    settings.INFERENCE_TIMEOUT_SECONDS = 0.3
    await _deployed_at(undeployed, settings, silent_server[0])

    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.3 seconds"):
        await undeployed.call()

    assert await nothing_happened()


async def test_a_model_that_was_loaded_when_hardly_any_time_was_left_is_not_called_late(
    undeployed: Shop, settings: Settings, silent_server: tuple[str, asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INFERENCE_TIMEOUT_SECONDS = 0.3
    settings.TRITON_URLS = [silent_server[0]]

    async def just_in_time(_version: UUID, deadline: float, **_away: object) -> list[Place]:
        await asyncio.sleep(deadline - asyncio.get_running_loop().time() - 0.1)
        return [(silent_server[0], undeployed.version.triton_name)]

    monkeypatch.setattr(dispatch, "loaded_on_demand", just_in_time)

    with pytest.raises(ModelUnavailable, match="it is being loaded") as problem:
        await undeployed.call()

    assert problem.value.code == "MODEL_UNAVAILABLE"
    assert await nothing_happened()


async def test_a_caller_whose_time_is_over_before_the_model_is_asked_is_told_that_and_nothing_else(shop: Shop) -> None:
    with pytest.raises(DeadlineExceeded):
        await shop.call(timeout=1e-9)

    assert await nothing_happened()


async def test_a_caller_who_goes_away_is_charged_nothing(
    undeployed: Shop, settings: Settings, silent_server: tuple[str, asyncio.Event]
) -> None:
    await _deployed_at(undeployed, settings, silent_server[0])
    call = asyncio.create_task(undeployed.call())
    await silent_server[1].wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    hold = await Hold.objects.aget()
    assert (hold.state, hold.released_because) == ("released", "CANCELLED")
    assert await nothing_happened()


async def test_another_server_answers_when_the_first_is_down(
    shop: Shop, settings: Settings, unused_tcp_port: int
) -> None:
    alive = settings.TRITON_URLS[0]
    await Deployment.objects.all().adelete()
    await _deployed_at(shop, settings, f"127.0.0.1:{unused_tcp_port}", alive)

    answers = [await shop.call() for _ in range(3)]

    assert all(answer.outputs for answer in answers)
    await Deployment.objects.exclude(endpoint=alive).adelete()


async def test_what_a_server_lost_is_loaded_again(shop: Shop, settings: Settings) -> None:
    await gateway.unload(settings.TRITON_URLS[0], shop.version.triton_name)
    with pytest.raises(ModelUnavailable):
        await shop.call()

    await reconciler.reconcile()

    assert (await shop.call()).outputs


async def test_the_same_idempotency_key_gets_the_first_answer_and_one_charge(shop: Shop) -> None:
    first = await shop.call(idempotency_key="order-1")
    second = await shop.call(idempotency_key="order-1")

    assert (second.id, second.outputs, second.units) == (first.id, first.outputs, first.units)
    assert (await Quota.objects.aget()).settled == 1
    with pytest.raises(IdempotencyConflict):
        await shop.call(idempotency_key="order-1", inputs=[vector("A", 9.0), INPUTS[1]])


async def test_an_answer_that_comes_after_its_hold_has_expired_is_neither_delivered_nor_charged(
    undeployed: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def infer_while_the_reaper_passes(*args: Any, request_id: str, **kwargs: Any) -> tuple[()]:
        await Hold.objects.filter(pk=UUID(request_id)).aupdate(state="released")
        return ()

    monkeypatch.setattr(gateway, "infer", infer_while_the_reaper_passes)
    await _deployed_at(undeployed, settings, "127.0.0.1:1")

    with pytest.raises(ModelUnavailable):
        await undeployed.call()

    assert not await LedgerEntry.objects.aexists()


async def test_a_round_that_waits_runs_after_the_one_under_way(undeployed: Shop) -> None:
    await asyncio.gather(reconciler.reconcile(wait=True), reconciler.reconcile(wait=True))

    assert (await undeployed.call()).outputs
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


async def test_where_a_version_is_loaded_is_asked_again_when_all_that_was_known_fails(
    shop: Shop, settings: Settings, unused_tcp_port: int
) -> None:
    """Loaded elsewhere since a moment ago: the hint names the server that is gone."""
    alive, gone = settings.TRITON_URLS[0], f"127.0.0.1:{unused_tcp_port}"
    key = await sync_to_async(factories.api_key_row)(shop.consumer)
    by_key = replace(shop.developer, api_key_id=key.pk)
    settings.TRITON_URLS = [alive, gone]
    await Deployment.objects.aupdate(endpoint=gone)
    assert await endpoints_of(shop.version.pk) == [(gone, shop.version.triton_name)]
    await Deployment.objects.aupdate(endpoint=alive)

    answer = await shop.call(by_key, hinted=True)

    assert answer.outputs
