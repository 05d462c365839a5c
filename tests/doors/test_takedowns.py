"""What was taken down answers nobody at any door: who still sees it hears why, others that there is no such model."""

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from marketplace.catalog import takedowns
from marketplace.catalog.models import MLModel
from tests import factories
from tests.doors.grpc_v2.calls import Refusal, bearer, question
from tests.doors.rest_v2.messages import message, ours, tensor
from tests.doors.site import Site

ADD = "openlab/add"
OPERANDS = message([tensor("A", "FP32", [1], [1.5]), tensor("B", "FP32", [1], [2.25])])
WHY = "The operator of this marketplace has taken openlab/{} down: It writes ransom notes."
INVOKE = """mutation { invokeModel(input: {model: "openlab/add", inputs: [
  {name: "A", datatype: FP32, shape: [1], data: [1]}, {name: "B", datatype: FP32, shape: [1], data: [2]}
]}) { invocation { id } errors { code message } } }"""


@pytest.fixture(scope="module")
def down(site: Site) -> Iterator[Site]:
    """The site without openlab/add and openlab/minilm, both of which were called just before."""
    assert ours(site, ADD, *OPERANDS).status == 200
    assert invoked(site, "subscriber")["errors"] == []

    def take_down() -> Any:
        operator = factories.user(is_staff=True, is_superuser=True)
        for model in (MLModel.objects.by_ref("openlab/add").get(), MLModel.objects.by_ref("openlab/minilm").get()):
            takedowns.take_down(operator, model_id=model.pk, reason="It writes ransom notes.")
        return operator

    def restore() -> None:
        for model in MLModel.objects.exclude(taken_down_at=None):
            takedowns.restore(operator, model_id=model.pk)

    operator = site.records(take_down)
    yield site
    site.records(restore)
    assert ours(site, ADD, *OPERANDS).status == 200


def invoked(site: Site, who: str) -> Any:
    answer = httpx.post(f"{site.url}/graphql", json={"query": INVOKE}, headers=site.headers(who), timeout=60)
    return answer.json()["data"]["invokeModel"]


@pytest.mark.parametrize("who", ["subscriber", "owner"])
def test_graphql_says_why(down: Site, who: str) -> None:
    assert invoked(down, who)["errors"] == [{"code": "MODEL_UNAVAILABLE", "message": WHY.format("add")}]


@pytest.mark.parametrize("path", ["", "/config", "/infer", "/versions/1/infer"])
def test_rest_says_why(down: Site, path: str) -> None:
    url, headers = f"{down.url}/v2/models/{ADD}{path}", down.headers("subscriber")
    answer = (
        httpx.post(url, content=OPERANDS[0], headers=headers, timeout=60)
        if "infer" in path
        else httpx.get(url, headers=headers, timeout=60)
    )

    assert (answer.status_code, answer.json()["error"]) == (503, WHY.format("add"))


def test_grpc_says_why(down: Site) -> None:
    with grpc.insecure_channel(down.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(question(), metadata=bearer(down.keys["subscriber"]))

    refused = Refusal(caught.value)
    assert (refused.code, refused.retry_after) == (grpc.StatusCode.UNAVAILABLE, None)
    assert refused.message.endswith(WHY.format("add"))


def test_the_openai_door_says_why(down: Site) -> None:
    asked = {"model": "openlab/minilm", "input": "A dog."}
    answer = httpx.post(f"{down.url}/v1/embeddings", json=asked, headers=down.headers("subscriber"), timeout=60)

    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == WHY.format("minilm")


def test_who_has_not_subscribed_hears_that_there_is_no_such_model(down: Site) -> None:
    assert invoked(down, "stranger")["errors"][0]["code"] == "NOT_FOUND"
    assert ours(down, ADD, *OPERANDS, who="stranger").status == 404


@pytest.mark.parametrize("who", ["subscriber", "owner", "stranger"])
def test_no_list_has_it_and_it_is_not_ready(down: Site, who: str) -> None:
    headers = down.headers(who)
    listed = httpx.get(f"{down.url}/v1/models", headers=headers).json()["data"]
    index = httpx.post(f"{down.url}/v2/repository/index", headers=headers).json()

    assert "openlab/minilm" not in {each["id"] for each in listed}
    assert ADD not in {each["name"] for each in index}
    assert httpx.get(f"{down.url}/v2/models/{ADD}/ready", headers=headers).status_code == 400
