"""What a caller gets from Triton, and what the failures of Triton mean."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from inference import gateway
from inference.formats import read_signature
from inference.oip import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from inference.repository import triton_models
from inference.tensors import Datatype, InferenceRequest, Tensor
from marketplace.embedded import triton as embedded
from marketplace.embedded.process import Process
from marketplace.errors import InferenceFailed, ModelUnavailable
from tests.inference import graphs
from tests.inference.conftest import Deploy
from tests.inference.processes import Silence, processes_of, worked

PATIENCE = 20.0


def fp32(name: str, *numbers: float) -> Tensor:
    return Tensor(name, Datatype.FP32, (len(numbers),), struct.pack(f"<{len(numbers)}f", *numbers))


def int64(name: str, *numbers: int) -> Tensor:
    return Tensor(name, Datatype.INT64, (len(numbers),), struct.pack(f"<{len(numbers)}q", *numbers))


SUM = InferenceRequest((fp32("A", 1.5), fp32("B", 2.25)))


async def test_an_answer_is_the_models_tensors(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())

    assert await gateway.infer(triton, add, SUM, timeout=PATIENCE) == (fp32("SUM", 3.75),)


async def test_outputs_come_as_asked_for(triton: str, deploy: Deploy) -> None:
    both = await deploy(graphs.identity([Datatype.FP32, Datatype.INT64], ["n"]))
    inputs = (fp32("in_FP32", 1, 2), int64("in_INT64", 3))

    async def names(*outputs: str) -> list[str]:
        answer = await gateway.infer(triton, both, InferenceRequest(inputs, outputs or None), timeout=PATIENCE)
        return [tensor.name for tensor in answer]

    assert await names("out_INT64", "out_FP32") == ["out_INT64", "out_FP32"]
    assert await names("out_FP32") == ["out_FP32"]
    assert sorted(await names()) == ["out_FP32", "out_INT64"]


async def test_parameters_of_every_kind_are_taken(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())
    request = InferenceRequest(SUM.inputs, None, {"yes": True, "count": 3, "share": 0.5, "text": "é"})

    assert await gateway.infer(triton, add, request, timeout=PATIENCE, request_id="0190-é") == (fp32("SUM", 3.75),)


async def test_the_models_own_failure_is_told_in_its_words(triton: str, deploy: Deploy) -> None:
    lookup = await deploy(graphs.lookup())

    with pytest.raises(InferenceFailed) as caught:
        await gateway.infer(triton, lookup, InferenceRequest((int64("index", 99),)), timeout=PATIENCE)

    assert "indices element out of data bounds, idx=99" in caught.value.message
    assert "/" not in caught.value.message
    # The next caller is none the worse.
    answer = await gateway.infer(triton, lookup, InferenceRequest((int64("index", 2),)), timeout=PATIENCE)
    assert answer == (fp32("found", 3),)


async def test_what_triton_itself_refuses_is_told_without_request_ids(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())
    request = InferenceRequest((fp32("A", 1), Tensor("B", Datatype.INT32, (1,), b"\0\0\0\0")))

    with pytest.raises(InferenceFailed) as caught:
        await gateway.infer(triton, add, request, timeout=PATIENCE, request_id="0190-secret")

    assert "data-type is 'INT32'" in caught.value.message
    assert "0190-secret" not in caught.value.message


async def test_a_model_that_is_not_loaded_is_broken_and_loading_mends_it(triton: str, deploy: Deploy) -> None:
    with pytest.raises(gateway.ModelBroken) as caught:
        await gateway.infer(triton, "018f-v1", SUM, timeout=PATIENCE)

    assert caught.value.retry_after_ms


async def test_a_dead_model_is_broken_and_unloading_and_loading_mends_it(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())
    for process in processes_of(add):
        os.kill(process, signal.SIGKILL)

    with pytest.raises(gateway.ModelBroken):
        await gateway.infer(triton, add, SUM, timeout=PATIENCE)
    assert await gateway.is_model_ready(triton, add), (
        "Triton knows better by now: see whether ModelBroken still needs it"
    )

    await gateway.unload(triton, add)
    for model in triton_models(add, "onnx", graphs.add(), read_signature(graphs.add())):
        await gateway.load(triton, model.name, model.config, model.files)
    assert await gateway.infer(triton, add, SUM, timeout=PATIENCE) == (fp32("SUM", 3.75),)


async def test_a_model_that_dies_during_a_call_is_unavailable(triton: str, deploy: Deploy) -> None:
    slow = await deploy(graphs.countdown())
    call = asyncio.create_task(
        gateway.infer(triton, slow, InferenceRequest((int64("turns", 10**6),)), timeout=PATIENCE)
    )
    await until_it_runs(slow)

    for process in processes_of(slow):
        os.kill(process, signal.SIGKILL)

    with pytest.raises(ModelUnavailable):
        await call


async def test_a_slow_model_is_unavailable_at_the_deadline(triton: str, deploy: Deploy) -> None:
    slow = await deploy(graphs.countdown())

    with pytest.raises(ModelUnavailable, match=r"within 0\.2 seconds"):
        await gateway.infer(triton, slow, InferenceRequest((int64("turns", 2000),)), timeout=0.2)


async def test_a_cancelled_call_does_not_run_at_the_server(triton: str, deploy: Deploy) -> None:
    slow = await deploy(graphs.countdown())
    first = asyncio.create_task(
        gateway.infer(triton, slow, InferenceRequest((int64("turns", 1000),)), timeout=PATIENCE)
    )
    await until_it_runs(slow)

    waiting = asyncio.create_task(
        gateway.infer(triton, slow, InferenceRequest((int64("turns", 10**6),)), timeout=PATIENCE)
    )
    # What is asked on the same connection after it is answered after it has arrived.
    await asyncio.sleep(0)
    await gateway.is_model_ready(triton, slow)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await first
    # It would take minutes; whoever comes next is answered all the same.
    await gateway.infer(triton, slow, InferenceRequest((int64("turns", 1),)), timeout=PATIENCE)


async def test_a_server_that_is_not_there_is_unavailable_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(ModelUnavailable) as caught:
            await gateway.infer(nobody, "018f-v1", SUM, timeout=PATIENCE)

        assert not isinstance(caught.value, gateway.ModelBroken)
        assert caught.value.retry_after_ms
        assert not await gateway.is_server_live(nobody)
        assert not await gateway.is_model_ready(nobody, "018f-v1")
        with pytest.raises(ModelUnavailable):
            await gateway.load(nobody, "018f-v1", {}, {})
        with pytest.raises(ModelUnavailable):
            await gateway.unload(nobody, "018f-v1")
        with pytest.raises(ModelUnavailable):
            await gateway.statistics(nobody)


async def test_a_server_that_never_answers_is_unavailable_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(ModelUnavailable):
            await gateway.infer(address, "018f-v1", SUM, timeout=0.3)


async def test_a_model_that_triton_cannot_load_is_refused_without_our_folders(triton: str) -> None:
    signature = read_signature(graphs.add())
    [model] = triton_models("018f-v1", "onnx", b"garbage", signature)

    with pytest.raises(InferenceFailed) as caught:
        await gateway.load(triton, model.name, model.config, model.files)

    assert "Protobuf parsing failed" in caught.value.message
    assert "/" not in caught.value.message


async def test_a_model_that_does_not_fit_its_signature_is_refused(triton: str) -> None:
    signature = read_signature(graphs.identity([Datatype.FP32], ["n"]))
    [model] = triton_models("018f-v1", "onnx", graphs.add(), signature)

    with pytest.raises(InferenceFailed, match="has no input 'in_FP32'"):
        await gateway.load(triton, model.name, model.config, model.files)


async def test_loading_again_and_unloading_again_change_nothing(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())
    [before] = processes_of(add)
    for model in triton_models(add, "onnx", graphs.add(), read_signature(graphs.add())):
        await gateway.load(triton, model.name, model.config, model.files)
    assert processes_of(add) == [before]

    await gateway.unload(triton, add)
    await gateway.unload(triton, add)
    assert not await gateway.is_model_ready(triton, add)


async def test_statistics_count_the_calls_since_a_load_under_its_number(triton: str, deploy: Deploy) -> None:
    add = await deploy(graphs.add())
    await gateway.infer(triton, add, SUM, timeout=PATIENCE)

    async def counted() -> list[tuple[int, int]]:
        statistics = await gateway.statistics(triton)
        return [(each.version, each.succeeded) for each in statistics if each.model == add]

    # Triton counts a call shortly after it has answered it.
    async with asyncio.timeout(PATIENCE):
        while await counted() != [(1, 1)]:  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)

    await gateway.unload(triton, add)
    for model in triton_models(add, "onnx", graphs.add(), read_signature(graphs.add()), load=1795273249469):
        await gateway.load(triton, model.name, model.config, model.files)
    assert await counted() == [(1795273249469, 0)]


class TestRestart:
    """With a Triton of the test's own, which it may stop and kill."""

    @pytest_asyncio.fixture
    async def server(self, tmp_path: Path) -> AsyncIterator["Server"]:
        server = Server(tmp_path)
        await server.start()
        yield server
        await gateway.close()
        server.process.kill()
        await server.process.wait()

    async def test_a_stopped_server_is_unavailable_at_the_deadline_and_then_answers_again(
        self, server: "Server", deploy: Deploy
    ) -> None:
        add = await deploy(graphs.add(), address=server.address)
        os.kill(server.process.pid, signal.SIGSTOP)

        with pytest.raises(ModelUnavailable):
            await gateway.infer(server.address, add, SUM, timeout=0.3)
        assert not await gateway.is_server_live(server.address, timeout=0.3)

        os.kill(server.process.pid, signal.SIGCONT)
        assert await gateway.infer(server.address, add, SUM, timeout=PATIENCE) == (fp32("SUM", 3.75),)

    async def test_a_killed_server_is_unavailable_and_found_again_when_it_is_back(
        self, server: "Server", deploy: Deploy
    ) -> None:
        add = await deploy(graphs.add(), address=server.address)
        server.process.kill()
        await server.process.wait()
        with pytest.raises(ModelUnavailable) as down:
            await gateway.infer(server.address, add, SUM, timeout=PATIENCE)
        assert not isinstance(down.value, gateway.ModelBroken)

        await server.start()
        await until(lambda: gateway.is_server_live(server.address))
        with pytest.raises(gateway.ModelBroken):
            await gateway.infer(server.address, add, SUM, timeout=PATIENCE)

        for model in triton_models(add, "onnx", graphs.add(), read_signature(graphs.add())):
            await gateway.load(server.address, model.name, model.config, model.files)
        assert await gateway.infer(server.address, add, SUM, timeout=PATIENCE) == (fp32("SUM", 3.75),)


async def test_a_stream_that_ends_without_its_last_answer_was_cut_whatever_its_status() -> None:
    async def answer(_requests: AsyncIterator[ModelInferRequest], context: Any) -> None:
        response = ModelInferResponse(model_name="count")
        response.outputs.add(name="number", datatype="INT64", shape=[1])
        response.raw_output_contents.append(struct.pack("<q", 1))
        await context.write(ModelStreamInferResponse(infer_response=response))

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=ModelInferRequest.FromString,
        response_serializer=ModelStreamInferResponse.SerializeToString,
    )
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelStreamInfer": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    got = []
    with pytest.raises(ModelUnavailable):
        async for outputs in gateway.stream(f"127.0.0.1:{port}", "count", InferenceRequest(()), timeout=PATIENCE):
            got.append(outputs)  # noqa: PERF401  (it is to have those that came before)

    await gateway.close()
    await server.stop(None)
    assert got == [(int64("number", 1),)]


class Server:
    def __init__(self, folder: Path) -> None:
        self.service = embedded.service(folder, throwaway=True)
        self.address = self.service.addresses["grpc"]

    async def start(self) -> None:
        self.process = await Process.start(self.service, os.environ, Silence())
        await until(lambda: self.service.ready(self.process.pid))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110  (another process fulfils it)
        await asyncio.sleep(0.02)


async def until_it_runs(model: str) -> None:
    """Until the model's process has worked for a tenth of a second more than it has by now."""
    [process] = processes_of(model)
    start = worked(process)

    async def working() -> bool:
        return worked(process) > start + 0.1

    await until(working)
