"""The unmodified tritonclient.grpc, synchronous, asyncio and streaming, with a key and nothing else."""

import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

from tests.doors.site import Site

ADD = "openlab/add"


def operands(first: float, second: float) -> list[triton_grpc.InferInput]:
    inputs = []
    for name, value in (("A", first), ("B", second)):
        tensor = triton_grpc.InferInput(name, [1], "FP32")
        tensor.set_data_from_numpy(np.array([value], dtype=np.float32))
        inputs.append(tensor)
    return inputs


@pytest.fixture
def key(site: Site) -> dict[str, str]:
    return {"authorization": f"Bearer {site.keys['subscriber']}"}


@pytest.fixture
def client(site: Site) -> Iterator[triton_grpc.InferenceServerClient]:
    client = triton_grpc.InferenceServerClient(site.grpc)
    yield client
    client.close()


@pytest_asyncio.fixture
async def aio(site: Site) -> AsyncIterator[triton_grpc_aio.InferenceServerClient]:
    async with triton_grpc_aio.InferenceServerClient(site.grpc) as client:
        yield client


def test_the_server_tells_of_itself_to_everybody(client: triton_grpc.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert {"classification", "statistics"} <= set(client.get_server_metadata().extensions)


def test_a_public_model_is_described_to_everybody(client: triton_grpc.InferenceServerClient) -> None:
    metadata = client.get_model_metadata(ADD, as_json=True)
    config = client.get_model_config(ADD, "1", as_json=True)["config"]

    assert metadata == {
        "name": ADD,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": ["-1"]} for name in "AB"],
        "outputs": [{"name": "SUM", "datatype": "FP32", "shape": ["-1"]}],
    }
    assert config["input"][0] == {"name": "A", "data_type": "TYPE_FP32", "dims": ["-1"]}
    assert client.is_model_ready(ADD)
    assert client.is_model_ready(ADD, "1")
    assert not client.is_model_ready(ADD, "2")
    assert not client.is_model_ready("openlab/unloaded")
    assert not client.is_model_ready("openlab/secret")


def test_a_private_model_is_described_to_whom_it_was_granted(
    site: Site, client: triton_grpc.InferenceServerClient, key: dict[str, str]
) -> None:
    assert client.get_model_metadata("openlab/secret", headers=key).name == "openlab/secret"
    stranger = {"authorization": f"Bearer {site.keys['stranger']}"}
    for headers in (None, stranger):
        with pytest.raises(InferenceServerException, match="unknown model") as refusal:
            client.get_model_metadata("openlab/secret", headers=headers)
        assert refusal.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_a_call_is_answered(
    client: triton_grpc.InferenceServerClient, key: dict[str, str], compression: str | None
) -> None:
    answer = client.infer(
        ADD,
        operands(1.5, 2.25),
        outputs=[triton_grpc.InferRequestedOutput("SUM")],
        request_id="mine",
        headers=key,
        compression_algorithm=compression,
    )

    assert answer.as_numpy("SUM").tolist() == [3.75]
    response = answer.get_response()
    assert (response.model_name, response.model_version, response.id) == (ADD, "1", "mine")


def test_a_call_by_callback_is_answered(client: triton_grpc.InferenceServerClient, key: dict[str, str]) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    client.async_infer(ADD, operands(1, 2), lambda result, error: answers.put((result, error)), headers=key)

    result, error = answers.get(timeout=60)
    assert error is None
    assert result.as_numpy("SUM").tolist() == [3]


async def test_an_asyncio_call_is_answered(aio: triton_grpc_aio.InferenceServerClient, key: dict[str, str]) -> None:
    assert await aio.is_model_ready(ADD)
    answer = await aio.infer(ADD, operands(1.5, 2.25), headers=key)

    assert answer.as_numpy("SUM").tolist() == [3.75]


def test_the_index_is_what_the_caller_may_call(
    site: Site, client: triton_grpc.InferenceServerClient, key: dict[str, str]
) -> None:
    mine = {each.name: each.state for each in client.get_model_repository_index(headers=key).models}

    assert mine[ADD] == mine["openlab/secret"] == "READY"
    assert mine["openlab/unloaded"] == "LOADING"
    stranger = {"authorization": f"Bearer {site.keys['stranger']}"}
    assert not client.get_model_repository_index(headers=stranger).models


def test_statistics_are_the_publishers_to_see(
    site: Site, client: triton_grpc.InferenceServerClient, key: dict[str, str]
) -> None:
    client.infer(ADD, operands(1, 2), headers=key)
    owner = {"authorization": f"Bearer {site.keys['owner']}"}

    [counted] = client.get_inference_statistics(ADD, headers=owner).model_stats

    assert (counted.name, counted.version) == (ADD, "1")
    assert counted.inference_stats.success.count >= 1
    with pytest.raises(InferenceServerException) as refusal:
        client.get_inference_statistics(ADD, headers=key)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "change",
    [
        lambda client, headers: client.load_model(ADD, headers=headers),
        lambda client, headers: client.unload_model(ADD, headers=headers),
        lambda client, headers: client.update_log_settings({"log_verbose_level": 1}, headers=headers),
        lambda client, headers: client.update_trace_settings(settings={"trace_level": "OFF"}, headers=headers),
        lambda client, headers: client.register_system_shared_memory("mine", "/mine", 8, headers=headers),
        lambda client, headers: client.register_cuda_shared_memory("mine", b"", 0, 8, headers=headers),
        lambda client, headers: client.unregister_system_shared_memory(headers=headers),
        lambda client, headers: client.get_trace_settings(headers=headers),
    ],
)
def test_nothing_changes_a_server(site: Site, client: triton_grpc.InferenceServerClient, change: Any) -> None:
    for headers in (None, {"authorization": f"Bearer {site.keys['owner']}"}):
        with pytest.raises(InferenceServerException) as refusal:
            change(client, headers)
        assert refusal.value.status() == "StatusCode.PERMISSION_DENIED"


class TestStreams:
    def test_each_request_of_a_stream_is_answered_in_order(
        self, client: triton_grpc.InferenceServerClient, key: dict[str, str]
    ) -> None:
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)), headers=key)
        for number in range(40):
            client.async_stream_infer(ADD, operands(number, 1), request_id=str(number))

        for number in range(40):
            result, error = answers.get(timeout=60)
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("SUM").tolist() == [number + 1]
            assert result.get_response().parameters["triton_final_response"].bool_param
        client.stop_stream()

    async def test_an_asyncio_stream_is_answered(
        self, aio: triton_grpc_aio.InferenceServerClient, key: dict[str, str]
    ) -> None:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(3):
                yield {"model_name": ADD, "inputs": operands(number, 1), "request_id": str(number)}

        answers = [answer async for answer in aio.stream_infer(requests(), headers=key)]

        assert [error for _result, error in answers] == [None] * 3
        assert [result.as_numpy("SUM").tolist() for result, _error in answers] == [[1], [2], [3]]
