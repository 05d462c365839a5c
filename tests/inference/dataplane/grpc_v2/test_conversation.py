"""What every method does alike: it reads one message, and says nothing of failures that nobody expected."""

import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc.service_pb2 import ServerMetadataRequest

from inference.dataplane import describe
from inference.oip import ModelInferRequest
from tests.inference.dataplane.grpc_v2.calls import refusal

pytestmark = pytest.mark.django_db(transaction=True)


async def test_what_nobody_expected_is_logged_under_the_request_id_and_masked(
    stub: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(describe, "server", broken)
    with caplog.at_level(logging.ERROR):
        refused = await refusal(stub.ServerMetadata(ServerMetadataRequest(), metadata=(("x-request-id", "mine"),)))

    assert refused.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(refused)
    assert dict(refused.trailing_metadata())["x-request-id"] == "mine"
    assert "a secret" in caplog.text


async def test_of_a_stream_it_is_masked_for_that_request_alone(
    stub: Any, metadata: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr("inference.dataplane.grpc_v2.infer.question_of", broken)
    requests = iter([ModelInferRequest(id="a"), ModelInferRequest(id="b")])

    answers = [each async for each in stub.ModelStreamInfer(requests, metadata=metadata)]

    assert [each.infer_response.id for each in answers] == ["a", "b"]
    assert all(each.error_message and "secret" not in each.error_message for each in answers)


async def test_a_call_without_a_message_is_refused(channel: grpc.aio.Channel, metadata: Any) -> None:
    call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(metadata=metadata)
    await call.done_writing()

    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
