"""The unmodified tritonclient.http, synchronous and asyncio, with a key and nothing else."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from tests.doors.site import Site

ADD = "openlab/add"


def operands(first: float, second: float, *, binary: bool = True) -> list[triton_http.InferInput]:
    inputs = []
    for name, value in (("A", first), ("B", second)):
        tensor = triton_http.InferInput(name, [1], "FP32")
        tensor.set_data_from_numpy(np.array([value], dtype=np.float32), binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.fixture
def client(site: Site) -> Iterator[triton_http.InferenceServerClient]:
    client = triton_http.InferenceServerClient(site.http)
    yield client
    client.close()


@pytest_asyncio.fixture
async def aio(site: Site) -> AsyncIterator[triton_http_aio.InferenceServerClient]:
    client = triton_http_aio.InferenceServerClient(site.http)
    yield client
    await client.close()


def test_the_server_tells_of_itself_to_everybody(client: triton_http.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert {"binary_tensor_data", "classification", "statistics"} <= set(client.get_server_metadata()["extensions"])


def test_a_public_model_is_described_to_everybody(client: triton_http.InferenceServerClient) -> None:
    metadata = client.get_model_metadata(ADD)
    config = client.get_model_config(ADD, model_version="1")

    assert metadata == {
        "name": ADD,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in "AB"],
        "outputs": [{"name": "SUM", "datatype": "FP32", "shape": [-1]}],
    }
    assert config["input"][0] == {"name": "A", "data_type": "TYPE_FP32", "dims": [-1]}
    assert config["max_batch_size"] == 0
    assert client.is_model_ready(ADD)
    assert client.is_model_ready(ADD, "1")
    assert not client.is_model_ready(ADD, "2")
    assert not client.is_model_ready("openlab/unloaded")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_a_call_is_answered(
    site: Site, client: triton_http.InferenceServerClient, binary: bool, compression: str | None
) -> None:
    answer = client.infer(
        ADD,
        operands(1.5, 2.25, binary=binary),
        outputs=[triton_http.InferRequestedOutput("SUM", binary_data=binary)],
        request_id="mine",
        headers=site.headers("subscriber"),
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )

    assert answer.as_numpy("SUM").tolist() == [3.75]
    assert answer.get_response()["id"] == "mine"
    assert answer.get_response()["model_name"] == ADD
    assert answer.get_response()["model_version"] == "1"


def test_calls_may_be_made_side_by_side(site: Site) -> None:
    with triton_http.InferenceServerClient(site.http, concurrency=8) as client:
        asked = [
            client.async_infer(ADD, operands(number, 1), headers=site.headers("subscriber")) for number in range(32)
        ]

        assert [each.get_result().as_numpy("SUM").tolist() for each in asked] == [[n + 1.0] for n in range(32)]


async def test_the_asyncio_client_is_answered_too(site: Site, aio: triton_http_aio.InferenceServerClient) -> None:
    answer = await aio.infer(ADD, operands(1.5, 2.25), headers=site.headers("subscriber"))

    assert answer.as_numpy("SUM").tolist() == [3.75]
    assert await aio.is_model_ready(ADD)
    assert (await aio.get_server_metadata())["name"] == "model-marketplace"


def test_the_index_holds_what_the_caller_may_call(site: Site, client: triton_http.InferenceServerClient) -> None:
    def names(who: str) -> set[str]:
        return {row["name"] for row in client.get_model_repository_index(headers=site.headers(who))}

    assert {ADD, "openlab/secret", "openlab/unloaded"} <= names("subscriber") <= names("owner")
    assert names("stranger") == set()


def test_the_index_says_what_is_loaded(site: Site, client: triton_http.InferenceServerClient) -> None:
    index = client.get_model_repository_index(headers=site.headers("subscriber"))

    assert {"name": ADD, "version": "1", "state": "READY", "reason": ""} in index
    assert {"name": "openlab/unloaded", "version": "1", "state": "LOADING", "reason": ""} in index
    assert {row["version"] for row in index if row["name"] == "openlab/digits"} == {"1", "2"}


def test_a_publisher_sees_what_triton_has_counted(site: Site, client: triton_http.InferenceServerClient) -> None:
    owner = site.headers("owner")
    before = client.get_inference_statistics(ADD, headers=owner)["model_stats"][0]["inference_stats"]["success"]
    client.infer(ADD, operands(1, 2), headers=site.headers("subscriber"))

    (after,) = client.get_inference_statistics(ADD, "1", headers=owner)["model_stats"]

    assert (after["name"], after["version"]) == (ADD, "1")
    assert after["inference_stats"]["success"]["count"] == before["count"] + 1
    assert ADD in {each["name"] for each in client.get_inference_statistics(headers=owner)["model_stats"]}


@pytest.mark.parametrize("who", ["subscriber", "stranger"])
def test_how_much_others_call_is_nobody_elses_business(
    site: Site, client: triton_http.InferenceServerClient, who: str
) -> None:
    with pytest.raises(InferenceServerException, match="not available") as refused:
        client.get_inference_statistics(ADD, headers=site.headers(who))

    assert refused.value.status() == "400"
    assert client.get_inference_statistics(headers=site.headers(who)) == {"model_stats": []}


def test_what_would_change_the_server_is_refused(site: Site, client: triton_http.InferenceServerClient) -> None:
    owner = site.headers("owner")
    for change in (
        lambda: client.load_model(ADD, headers=owner),
        lambda: client.unload_model(ADD, headers=owner),
        lambda: client.get_system_shared_memory_status(headers=owner),
        lambda: client.register_system_shared_memory("region", "/region", 64, headers=owner),
        lambda: client.unregister_cuda_shared_memory(headers=owner),
        lambda: client.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=owner),
        lambda: client.update_trace_settings(ADD, settings={"trace_level": ["OFF"]}, headers=owner),
        lambda: client.update_log_settings({"log_verbose_level": 1}, headers=owner),
    ):
        with pytest.raises(InferenceServerException) as refused:
            change()
        assert refused.value.status() == "403"
