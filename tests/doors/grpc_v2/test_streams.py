"""ModelStreamInfer: what Triton does on a stream, we do; and what is cut is stopped, and charged as far as it came."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.oip import ModelInferRequest, ModelStreamInferResponse
from tests.doors import counter
from tests.doors.grpc_v2.calls import Refusal, bearer, fp32, question
from tests.doors.site import Site

EOF = grpc.aio.EOF


@pytest.fixture
def key(site: Site) -> str:
    """Of a tenant that counts, by token, and adds."""
    return counter.put_up(site, site.triton_grpc)


def count(times: int, id: str = "", /, **parameters: Any) -> ModelInferRequest:
    message = ModelInferRequest(model_name=counter.REF, id=id)
    message.inputs.add(name="times", datatype="INT64", shape=[1])
    message.raw_input_contents.append(times.to_bytes(8, "little"))
    for name, value in parameters.items():
        field = {bool: "bool_param", int: "int64_param"}.get(type(value), "string_param")
        setattr(message.parameters[name], field, value if field != "string_param" else str(value))
    return message


async def answers(stub: Any, *requests: ModelInferRequest, metadata: Any = ()) -> list[ModelStreamInferResponse]:
    return [each async for each in stub.ModelStreamInfer(iter(requests), metadata=metadata)]


def numbers(responses: list[ModelStreamInferResponse]) -> list[int]:
    return [number(each) for each in responses if each.infer_response.outputs]


def number(response: ModelStreamInferResponse) -> int:
    names = [each.name for each in response.infer_response.outputs]
    return int.from_bytes(response.infer_response.raw_output_contents[names.index("number")], "little")


@pytest.mark.parametrize("parameters", [{}, {"triton_enable_empty_final_response": True}], ids=["plain", "final"])
@pytest.mark.parametrize("times", [3, 0])
async def test_a_decoupled_model_answers_as_on_triton(
    site: Site, stub: Any, key: str, times: int, parameters: dict[str, bool]
) -> None:
    message = count(times, "mine", **parameters)
    ours = await answers(stub, message, metadata=bearer(key))

    message.model_name = site.version(counter.REF).triton_name
    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        tritons = await answers(GRPCInferenceServiceStub(channel), message)
    for each in tritons:
        each.infer_response.model_name = counter.REF
        if each.infer_response.model_version:
            each.infer_response.model_version = "1"
    assert [each.SerializeToString(deterministic=True) for each in ours] == [
        each.SerializeToString(deterministic=True) for each in tritons
    ]
    assert len(numbers(ours)) == times


async def test_by_model_infer_it_answers_once(stub: Any, key: str) -> None:
    answer = await stub.ModelInfer(count(3), metadata=bearer(key))

    assert len(answer.outputs) == len(answer.raw_output_contents) == 3
    assert not answer.parameters


async def test_what_waits_holds_up_nothing_else_on_its_stream(site: Site, stub: Any, key: str, tmp_path: Path) -> None:
    """Which Triton itself does not survive: it ends when a stream has decoupled models and others."""
    gate = tmp_path / "gate"
    subscriber = bearer(site.keys["subscriber"])
    stream = stub.ModelStreamInfer(metadata=bearer(key))
    await stream.write(count(3, "gated", gate=gate, gate_at=1))
    assert number(await stream.read()) == 0

    await stream.write(count(2, "free"))
    assert [(each.infer_response.id, number(each)) for each in [await stream.read(), await stream.read()]] == [
        ("free", 0),
        ("free", 1),
    ]

    gate.touch()
    assert [number(await stream.read()), number(await stream.read())] == [1, 2]
    await stream.done_writing()
    assert await stream.read() is EOF
    assert await stream.code() is grpc.StatusCode.OK
    assert subscriber


async def test_a_request_is_refused_by_itself_as_on_triton(site: Site, stub: Any) -> None:
    def requests(name: str) -> list[ModelInferRequest]:
        wrong = question(name, id="wrong")
        wrong.inputs[0].name = "Z"
        return [question("nobody/nothing", id="unknown"), question(name, id="a"), wrong, question("nobody/nothing")]

    ours = await answers(stub, *requests("openlab/add"), metadata=bearer(site.keys["subscriber"]))
    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        name = site.version("openlab/add").triton_name
        tritons = await answers(GRPCInferenceServiceStub(channel), *requests(name))

    assert [(each.infer_response.id, bool(each.error_message)) for each in ours] == [
        ("unknown", True),
        ("a", False),
        ("wrong", True),
        ("", True),
    ]
    assert [(each.infer_response.id, bool(each.error_message)) for each in tritons] == [
        (each.infer_response.id, bool(each.error_message)) for each in ours
    ]
    assert list(ours[1].infer_response.raw_output_contents) == [fp32(3.75)]
    assert "nobody/nothing" in ours[0].error_message


async def test_who_asks_for_statuses_gets_the_first_refusal_as_one(site: Site, stub: Any) -> None:
    metadata = bearer(site.keys["subscriber"], triton_grpc_error="true")
    metadata = tuple((name.replace("triton-grpc-error", "triton_grpc_error"), value) for name, value in metadata)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answers(stub, question("nobody/nothing"), metadata=metadata)

    assert Refusal(caught.value).code is grpc.StatusCode.NOT_FOUND


async def test_a_stream_without_a_key_is_unauthenticated_before_it_says_anything(stub: Any) -> None:
    # grpc.aio's own client makes an INTERNAL of whatever it is told while it is still writing.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelStreamInfer().read()

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_is_no_message_is_refused_by_itself(site: Site, channel: grpc.aio.Channel) -> None:
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
        iter([b"\xff\xff", question(id="a").SerializeToString()]), metadata=bearer(site.keys["subscriber"])
    )

    refused, answered = [ModelStreamInferResponse.FromString(each) async for each in stream]

    assert refused.error_message
    assert answered.infer_response.id == "a"


async def test_a_model_that_fails_on_the_way_says_so(stub: Any, key: str) -> None:
    responses = await answers(stub, count(5, "mine", fail_at=2), metadata=bearer(key))

    assert numbers(responses) == [0, 1]
    assert "counting is hard" in responses[-1].error_message
    assert responses[-1].infer_response.id == "mine"


async def test_a_client_that_leaves_stops_the_model_and_pays_for_what_it_took(
    site: Site, stub: Any, key: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    stream = stub.ModelStreamInfer(
        iter([count(9, gate=tmp_path / "never", gate_at=3, journal=journal)]), metadata=bearer(key)
    )
    for _ in range(3):
        await stream.read()

    stream.cancel()

    # Two for the first, one for each other.
    assert await counter.until_charged(site, key) == 4
    async with asyncio.timeout(60):
        while not journal.exists():  # noqa: ASYNC110  (Triton writes it)
            await asyncio.sleep(0.02)
    assert json.loads(journal.read_text())["cancelled"]


async def test_a_deadline_ends_the_stream_and_what_came_is_charged(
    site: Site, stub: Any, key: str, tmp_path: Path
) -> None:
    stream = stub.ModelStreamInfer(
        iter([count(9, gate=tmp_path / "never", gate_at=2)]), metadata=bearer(key), timeout=5
    )
    taken = 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in stream:
            taken += bool(response.infer_response.outputs)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert taken == 2
    assert await counter.until_charged(site, key) == 3


async def test_a_server_that_ends_answers_what_it_has_and_says_when_to_come_back(
    site: Site, key: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with site.another_server() as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stream = GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=bearer(key))
            await stream.write(count(3, gate=gate, gate_at=1))
            assert number(await stream.read()) == 0

            os.kill(server.process.pid, signal.SIGTERM)
            await until_it_takes_nobody(server.grpc)
            gate.touch()

            assert [number(await stream.read()), number(await stream.read())] == [1, 2]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
    refused = Refusal(caught.value)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.retry_after


async def until_it_takes_nobody(address: str) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(60):
        while True:
            try:
                _reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.02)
