"""invokeModel on a real Triton: answers, what they cost, and how each failure is told."""

import asyncio
import hashlib
import json
import struct
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connection

from graphql_api.nodes import global_id
from inference import gateway
from inference.deployment import reconciler
from inference.models import Deployment
from marketplace.access import TenantRole
from marketplace.catalog.models import ModelVersion
from marketplace.metering.models import Hold, LedgerEntry, Quota
from marketplace.objects.folder import Folder
from tests import factories
from tests.graphql_api.caller import Caller

INVOKE = """
mutation ($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation {
      id status units latencyMs createdAt
      model { ref publisher { slug } plans { name } versions { totalCount } viewerSubscription { quota { settled } } }
      version { number inputs { name } }
      outputs { name datatype shape data base64 }
    }
    errors {
      __typename code message path
      ... on QuotaExceeded { limit remaining resetsAt }
      ... on RateLimited { retryAfterMs }
      ... on ModelUnavailable { retryIn: retryAfterMs }
    }
  }
}"""

MINE = """
{ viewer { tenant { invocations { totalCount edges { node { id status units outputs { data } } } } } } }"""

ADD = Path(__file__).parent.parent.parent / "demo/catalogue/add/v1.onnx"

pytestmark = pytest.mark.django_db(transaction=True)


def vector(name: str, *values: float, **fields: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [len(values)], "data": list(values)} | fields


INPUTS = [vector("A", 1.5), vector("B", 2.25)]


class Shop:
    """openlab/add; acme may make five calls, as its developer does. rate/add allows one call a second."""

    def __init__(self, objects: Path) -> None:
        openlab = factories.tenant("openlab", is_publisher=True)
        self.acme = factories.tenant("acme")
        sha256, size = Folder(objects).put(ADD)
        self.model = factories.model(openlab, "add")
        self.version = factories.version(self.model, sha256=sha256, size_bytes=size)
        self.plan = factories.plan(self.model, included_units=5)
        factories.subscription(self.acme, self.plan)
        self.developer = Caller(key=factories.api_key(self.acme))
        self.stranger = Caller(key=factories.api_key(factories.tenant("globex")))

    async def invoke(self, caller: Caller | None = None, **change: Any) -> dict[str, Any]:
        sent = {"model": "openlab/add", "inputs": INPUTS} | change
        answer = await (caller or self.developer).aask(INVOKE, input=sent)
        assert "errors" not in answer, answer["errors"]
        payload: dict[str, Any] = answer["data"]["invokeModel"]
        return payload


@pytest_asyncio.fixture
async def undeployed(settings: Any, tmp_path: Path, transactional_db: None) -> Shop:
    settings.OBJECTS_DIR = tmp_path
    return await sync_to_async(Shop)(tmp_path)


@pytest_asyncio.fixture
async def shop(undeployed: Shop) -> AsyncIterator[Shop]:
    await reconciler.reconcile()
    yield undeployed
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


async def nothing_happened() -> bool:
    quotas = [quota async for quota in Quota.objects.all()]
    return all(quota.held == quota.settled == 0 for quota in quotas) and not await LedgerEntry.objects.aexists()


async def test_a_call_is_answered_and_charged(shop: Shop) -> None:
    payload = await shop.invoke()

    invocation = payload["invocation"]
    assert payload["errors"] == []
    assert (invocation["status"], invocation["units"]) == ("SUCCEEDED", "1")
    assert invocation["latencyMs"] > 0
    assert invocation["outputs"] == [
        {"name": "SUM", "datatype": "FP32", "shape": [1], "data": [3.75], "base64": "AABwQA=="}
    ]
    assert invocation["version"] == {"number": 1, "inputs": [{"name": "A"}, {"name": "B"}]}
    assert invocation["model"]["ref"] == "openlab/add"
    assert invocation["model"]["viewerSubscription"] == {"quota": {"settled": "1"}}
    assert (await Hold.objects.aget()).charged == 1


async def test_base64_is_taken_for_data(shop: Shop) -> None:
    inputs = [vector("A", 1.5, data=None, base64="AADAPw=="), vector("B", 2.25)]

    payload = await shop.invoke(inputs=inputs)

    assert payload["invocation"]["outputs"][0]["data"] == [3.75]


async def test_an_invocation_is_found_again_without_what_it_answered(shop: Shop) -> None:
    payload = await shop.invoke()

    answer = await shop.developer.aask(MINE)

    invocations = answer["data"]["viewer"]["tenant"]["invocations"]
    assert invocations["totalCount"] == 1
    assert invocations["edges"][0]["node"] == {
        "id": payload["invocation"]["id"],
        "status": "SUCCEEDED",
        "units": "1",
        "outputs": None,
    }


async def test_a_receipt_proves_what_was_asked_and_answered(shop: Shop) -> None:
    document = """
    mutation ($input: InvokeModelInput!) { invokeModel(input: $input) { invocation { id receipt } errors { code } } }"""
    sent = {"model": "openlab/add", "inputs": INPUTS}

    invocation = (await shop.developer.aask(document, input=sent))["data"]["invokeModel"]["invocation"]

    # As docs/receipts.md tells a customer to compute them.
    asked = (
        b'{"inputs": [["A", "FP32", [1], 4], ["B", "FP32", [1], 4]], "model": "openlab/add", "outputs": null, '
        b'"parameters": {}, "version": null}\n' + struct.pack("<2f", 1.5, 2.25)
    )
    answered = b'[["SUM", "FP32", [1], 4]]\n' + struct.pack("<f", 3.75)
    claims = json.loads(urlsafe_b64decode(invocation["receipt"].split(".")[1] + "=="))
    assert claims["request_sha256"] == hashlib.sha256(asked).hexdigest()
    assert claims["answer_sha256"] == hashlib.sha256(answered).hexdigest()
    assert claims["artifact_sha256"] == shop.version.sha256
    assert global_id("Invocation", claims["jti"]) == invocation["id"]
    await sync_to_async(call_command)("verify_receipt", invocation["receipt"])


async def test_a_key_of_idempotency_is_answered_twice_and_charged_once(shop: Shop) -> None:
    first = await shop.invoke(idempotencyKey="k1")
    second = await shop.invoke(idempotencyKey="k1")

    def without_quota(payload: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in payload["invocation"].items() if key not in ("model", "createdAt")}

    assert without_quota(first) == without_quota(second)
    assert (await Quota.objects.aget()).settled == 1
    kept = await shop.developer.aask(MINE)
    assert kept["data"]["viewer"]["tenant"]["invocations"]["edges"][0]["node"]["outputs"] == [{"data": [3.75]}]


async def test_a_key_of_idempotency_is_for_one_request(shop: Shop) -> None:
    await shop.invoke(idempotencyKey="k1")

    payload = await shop.invoke(idempotencyKey="k1", inputs=[vector("A", 9), vector("B", 9)])

    assert payload["invocation"] is None
    assert [(error["__typename"], error["path"]) for error in payload["errors"]] == [
        ("IdempotencyConflict", "input.idempotencyKey")
    ]


async def test_calls_at_once_stop_at_the_quota(shop: Shop) -> None:
    payloads = await asyncio.gather(*(shop.invoke() for _ in range(8)))

    refused = [payload["errors"][0] for payload in payloads if payload["errors"]]
    assert [error["__typename"] for error in refused] == ["QuotaExceeded"] * 3
    assert (refused[0]["limit"], refused[0]["remaining"]) == ("5", "0")
    assert refused[0]["resetsAt"].endswith("Z")
    assert (await Quota.objects.aget()).settled == 5


async def test_a_rate_is_kept(shop: Shop) -> None:
    shop.plan.requests_per_second = shop.plan.burst = 1
    await shop.plan.asave()

    payloads = await asyncio.gather(*(shop.invoke() for _ in range(8)))

    (error,) = next(payload["errors"] for payload in payloads if payload["errors"])
    assert error["__typename"] == "RateLimited"
    assert 0 < error["retryAfterMs"] <= 1000


async def test_who_has_no_subscription_is_told_so(shop: Shop) -> None:
    payload = await shop.invoke(shop.stranger)

    assert [(error["__typename"], error["path"]) for error in payload["errors"]] == [
        ("SubscriptionRequired", "input.model")
    ]


@pytest.mark.parametrize(
    ("change", "problem", "path"),
    [
        ({"model": "openlab/nothing"}, "NotFound", "input.model"),
        ({"model": "add"}, "NotFound", "input.model"),
        ({"model": "open\0lab/add"}, "NotFound", "input.model"),
        ({"version": 2}, "NotFound", "input.version"),
        ({"version": -1}, "NotFound", "input.version"),
        ({"version": 2**31 - 1}, "NotFound", "input.version"),
        ({"inputs": []}, "ValidationProblem", "input.inputs"),
        ({"inputs": [vector("A", 1)]}, "ValidationProblem", "input.inputs"),
        ({"inputs": [vector("C", 1), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.name"),
        ({"inputs": [vector("A", 1, datatype="INT64"), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.datatype"),
        ({"inputs": [vector("A", 1, shape=[2**62]), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.shape.0"),
        ({"inputs": [vector("A", 1, shape=[1, 1]), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.shape"),
        ({"inputs": [vector("A", 1, data=None), INPUTS[1]]}, "ValidationProblem", "input.inputs.0"),
        ({"inputs": [vector("A", 1, base64="AADAPw=="), INPUTS[1]]}, "ValidationProblem", "input.inputs.0"),
        ({"inputs": [vector("A", 1, data=["x"]), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.data.0"),
        ({"inputs": [vector("A", 1, data=None, base64="!"), INPUTS[1]]}, "ValidationProblem", "input.inputs.0.base64"),
        ({"outputs": ["NOTHING"]}, "ValidationProblem", "input.outputs.0"),
        ({"parameters": {"sequence_id": 5}}, "ValidationProblem", "input.parameters"),
        ({"idempotencyKey": ""}, "ValidationProblem", "input.idempotencyKey"),
        ({"idempotencyKey": "k" * 256}, "ValidationProblem", "input.idempotencyKey"),
    ],
)
async def test_what_cannot_be_run_is_told_by_its_field_and_costs_nothing(
    undeployed: Shop, change: dict[str, Any], problem: str, path: str
) -> None:
    payload = await undeployed.invoke(**change)

    assert payload["invocation"] is None
    assert [(error["__typename"], error["path"]) for error in payload["errors"]] == [(problem, path)]
    assert await nothing_happened()


async def test_a_model_that_no_server_has_loaded_is_unavailable_and_costs_nothing(undeployed: Shop) -> None:
    payload = await undeployed.invoke()

    (error,) = payload["errors"]
    assert error["__typename"] == "ModelUnavailable"
    assert error["retryIn"] > 0
    assert await nothing_happened()


async def test_a_publisher_invokes_its_own_model_at_no_charge(shop: Shop) -> None:
    publisher = await sync_to_async(factories.api_key)(shop.model.publisher)

    payload = await shop.invoke(Caller(key=publisher))

    assert payload["errors"] == []
    assert not await Quota.objects.aexists()


async def test_a_session_invokes_as_a_key_does(shop: Shop) -> None:
    bob = await sync_to_async(lambda: Caller(user=factories.member(shop.acme, TenantRole.DEVELOPER)))()

    payload = await shop.invoke(bob)

    assert payload["invocation"]["outputs"][0]["data"] == [3.75]
    assert (await Hold.objects.aget()).user_id is not None


async def test_many_calls_at_once_wait_without_holding_a_connection_each(shop: Shop) -> None:
    shop.plan.included_units = 1000
    await shop.plan.asave()

    payloads = await asyncio.gather(*(shop.invoke() for _ in range(60)))

    assert [payload["errors"] for payload in payloads] == [[]] * 60


@pytest_asyncio.fixture
async def silent_server() -> AsyncIterator[str]:
    """The address of an HTTP/2 server that greets whoever connects (an empty SETTINGS frame) and never says more."""
    writers = []

    def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        writers.append(writer)

    server = await asyncio.start_server(greet, "127.0.0.1")
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await gateway.close()
    for writer in writers:
        writer.close()
    server.close()


async def test_no_connection_to_the_database_is_held_while_an_answer_is_awaited(
    undeployed: Shop, settings: Any, silent_server: str
) -> None:
    settings.TRITON_URLS, settings.INFERENCE_TIMEOUT_SECONDS = [silent_server], 2.0
    await Deployment.objects.acreate(version=undeployed.version, endpoint=silent_server, status="READY")
    # A function, since the connection is the thread's that looks it up.
    await sync_to_async(lambda: connection.ensure_connection())()  # noqa: PLW0108

    call = asyncio.create_task(undeployed.invoke())
    while await sync_to_async(lambda: connection.connection is not None)():
        assert not call.done()
        await asyncio.sleep(0.01)

    payload = await call
    assert [error["__typename"] for error in payload["errors"]] == ["ModelUnavailable"]
    assert await nothing_happened()


async def test_an_invocation_of_another_tenant_is_not_there(shop: Shop) -> None:
    payload = await shop.invoke()

    document = "query ($id: ID!) { node(id: $id) { id } }"
    foreign = await shop.stranger.aask(document, id=payload["invocation"]["id"])
    own = await shop.developer.aask(document, id=payload["invocation"]["id"])

    assert foreign == {"data": {"node": None}}
    assert own["data"]["node"]["id"] == payload["invocation"]["id"]
    assert own["data"]["node"]["id"] == global_id("Invocation", (await Hold.objects.aget()).pk)
