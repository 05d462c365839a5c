"""A request's id and its place in a trace: from the caller to Triton, and back, and into what is logged."""

import logging
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from inference import gateway
from inference.oip import ModelInferRequest, ModelInferResponse
from inference.tensors import Datatype, InferenceRequest, Tensor
from marketplace import trace
from marketplace.edge import Receive, Scope, Send, Traced, respond

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Triton:
    """As much of one as tells what metadata a call comes with."""

    def __init__(self) -> None:
        self.heard: dict[str, str | bytes] = {}
        self.address = ""

    async def infer(self, request: ModelInferRequest, context: Any) -> ModelInferResponse:
        self.heard = dict(context.invocation_metadata())
        answer = ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="SUM", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(struct.pack("<f", 1))
        return answer


@pytest_asyncio.fixture
async def triton() -> AsyncIterator[Triton]:
    here = Triton()
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        here.infer,
        request_deserializer=ModelInferRequest.FromString,
        response_serializer=ModelInferResponse.SerializeToString,
    )
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),))
    here.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield here
    await gateway.close()
    await server.stop(None)


async def asked(triton: Triton, **headers: str) -> httpx.Response:
    """The answer of an application that calls Triton once."""

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        request = InferenceRequest((Tensor("A", Datatype.FP32, (1,), struct.pack("<f", 1)),))
        await gateway.infer(triton.address, "add", request, timeout=10)
        await respond(send, 200, [], b"")

    transport = httpx.ASGITransport(Traced(application))  # type: ignore[arg-type]  # dicts, where it has mappings
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/", headers=headers)


async def test_a_caller_s_id_and_trace_reach_triton_and_come_back(triton: Triton) -> None:
    answer = await asked(triton, **{"X-Request-Id": "order-7", "traceparent": PARENT})

    assert (triton.heard["x-request-id"], triton.heard["traceparent"]) == ("order-7", PARENT)
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("order-7", PARENT)


@pytest.mark.parametrize("given", [None, "", "with space", "new\tline", "é", "x" * 129])
async def test_a_request_without_an_id_that_is_one_gets_its_own(triton: Triton, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode()}

    answer = await asked(triton, **headers)  # type: ignore[arg-type]

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert triton.heard["x-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("given", ["nonsense", PARENT[:-1], PARENT.upper(), "00-" + "0" * 32 + "-" + "1" * 16 + "-01"])
async def test_what_is_no_trace_is_not_carried_on(triton: Triton, given: str) -> None:
    answer = await asked(triton, traceparent=given)

    assert "traceparent" not in triton.heard
    assert "traceparent" not in answer.headers


async def test_what_nobody_asked_for_has_none(triton: Triton) -> None:
    await gateway.infer(triton.address, "add", InferenceRequest(()), timeout=10)

    assert "x-request-id" not in triton.heard


def test_a_log_record_says_which_request_it_is_about() -> None:
    record = logging.makeLogRecord({"msg": "…"})
    token = trace.current.set(trace.Trace("order-7", ""))
    trace.RequestId().filter(record)
    trace.current.reset(token)
    without = logging.makeLogRecord({"msg": "…"})
    trace.RequestId().filter(without)

    assert (record.request_id, without.request_id) == ("order-7", "-")  # type: ignore[attr-defined]
