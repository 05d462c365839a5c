"""Every refusal has the status that Triton gives it, and google.rpc details for clients that read them."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from django.utils import timezone
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.oip import ModelInferRequest
from marketplace.metering.models import HoldState
from marketplace.tenants.models import ApiKey
from tests.doors.grpc_v2.calls import SERVICE, Refusal, bearer, fp32, question
from tests.doors.site import Server, Site


async def refusal(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refusal(caught.value)


class TestWhoAsks:
    @pytest.mark.parametrize("metadata", [(), (("authorization", "Basic x"),), bearer("nonsense")])
    async def test_no_key_and_what_is_none_are_unauthenticated(self, stub: Any, metadata: Any) -> None:
        refused = await refusal(stub.ModelInfer(question(), metadata=metadata))

        assert (refused.code.name, refused.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")

    @pytest.mark.parametrize("who", ["revoked", "expired"])
    async def test_a_key_that_is_over_is_unauthenticated(self, site: Site, stub: Any, who: str) -> None:
        refused = await refusal(stub.ModelInfer(question(), metadata=bearer(site.keys[who])))

        assert refused.code is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_key_is_over_from_the_next_call_on(self, site: Site, stub: Any) -> None:
        key = site.customer("openlab/add")
        await stub.ModelInfer(question(), metadata=bearer(key))
        newest = site.records(lambda: ApiKey.objects.latest("created_at").pk)

        site.records(lambda: ApiKey.objects.filter(pk=newest).update(revoked_at=timezone.now()))

        assert (await refusal(stub.ModelInfer(question(), metadata=bearer(key)))).reason == "UNAUTHENTICATED"

    async def test_nothing_of_a_strangers_is_read(self, channel: grpc.aio.Channel) -> None:
        """Answered before the message is sent: whoever waits for it to be read would wait for ever."""
        call = channel.stream_unary(f"{SERVICE}/ModelInfer")(metadata=bearer("nonsense"))

        async with asyncio.timeout(60):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_a_role_that_may_not_call_is_denied(self, site: Site, stub: Any) -> None:
        refused = await refusal(stub.ModelInfer(question(), metadata=bearer(site.keys["viewer"])))

        assert (refused.code.name, refused.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")

    async def test_who_has_not_subscribed_is_denied(self, site: Site, stub: Any) -> None:
        refused = await refusal(stub.ModelInfer(question(), metadata=bearer(site.keys["stranger"])))

        assert (refused.code.name, refused.reason) == ("PERMISSION_DENIED", "SUBSCRIPTION_REQUIRED")

    async def test_a_private_model_is_as_unknown_as_any(self, site: Site, stub: Any) -> None:
        metadata = bearer(site.keys["stranger"])

        private = await refusal(stub.ModelInfer(question("openlab/secret"), metadata=metadata))
        missing = await refusal(stub.ModelInfer(question("openlab/nothing"), metadata=metadata))

        assert private.code is missing.code is grpc.StatusCode.NOT_FOUND
        assert private.message.replace("secret", "nothing") == missing.message


def without(message: ModelInferRequest, field: str) -> ModelInferRequest:
    message.ClearField(field)
    return message


def changed(tensor: int = 0, /, **fields: Any) -> ModelInferRequest:
    message = question()
    for name, value in fields.items():
        if name == "shape":
            message.inputs[tensor].shape[:] = value
        else:
            setattr(message.inputs[tensor], name, value)
    return message


def with_contents(index: int, content: bytes) -> ModelInferRequest:
    message = question()
    message.raw_input_contents[index] = content
    return message


def with_output(name: str, **parameters: str) -> ModelInferRequest:
    message = question()
    output = message.outputs.add(name=name)
    for key, value in parameters.items():
        output.parameters[key].string_param = value
    return message


def typed(*kinds: str, datatype: str = "FP32") -> ModelInferRequest:
    message = without(question(), "raw_input_contents")
    for tensor in message.inputs:
        tensor.datatype = datatype
        for kind in kinds:
            getattr(tensor.contents, kind).append(1)
    return message


def with_parameter(name: str, value: int) -> ModelInferRequest:
    message = question()
    message.parameters[name].int64_param = value
    return message


def with_both() -> ModelInferRequest:
    message = question()
    message.inputs[1].contents.fp32_contents.append(1)
    return message


WRONG = {
    "unknown version": (question(model_version="2"), "model_name"),
    "version that cannot be": (question(model_version="9" * 30), "model_version"),
    "version that is no number": (question(model_version="latest"), "model_version"),
    "unknown input": (changed(name="Z"), "inputs.0.name"),
    "missing input": (without(question(), "inputs"), "raw_input_contents"),
    "input twice": (changed(1, name="A"), "inputs.1.name"),
    "wrong datatype": (changed(datatype="INT32"), "inputs.0.datatype"),
    "no datatype": (changed(datatype="FP99"), "inputs.0.datatype"),
    "wrong rank": (changed(shape=[1, 1]), "inputs.0.shape"),
    "open dimension": (changed(shape=[-1]), "inputs.0.shape.0"),
    "too large a shape": (changed(shape=[2**40]), "inputs.0.shape.0"),
    "too few bytes": (with_contents(0, b"ab"), "inputs.0"),
    "no contents": (without(question(), "raw_input_contents"), "inputs.0"),
    "contents twice": (with_both(), "inputs.1.contents"),
    "elements of another type": (typed("int_contents"), "inputs.0.contents"),
    "elements of two types": (typed("fp32_contents", "fp64_contents"), "inputs.0.contents"),
    "elements of a type that has none": (typed("fp32_contents", datatype="FP16"), "inputs.0.contents"),
    "unknown output": (with_output("PRODUCT"), "outputs.0"),
    "shared memory": (with_output("SUM", shared_memory_region="mine"), "outputs.0.parameters"),
    "no class": (with_output("SUM", classification="1"), "outputs.0.parameters.classification"),
    "reserved parameter": (with_parameter("sequence_id", 1), "parameters"),
    "Triton's own parameter": (with_parameter("triton_x", 1), "parameters"),
    "timeout before now": (with_parameter("timeout", -1), "parameters.timeout"),
}
NOT_FOUND = {"unknown version", "version that cannot be"}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_with_a_request_has_tritons_status_and_names_its_field(
    site: Site, stub: Any, case: str
) -> None:
    message, field = WRONG[case]
    before = len(site.holds("subscriber"))

    refused = await refusal(stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"])))

    assert refused.code.name == ("NOT_FOUND" if case in NOT_FOUND else "INVALID_ARGUMENT")
    assert refused.field == field
    assert refused.message.startswith(f"{field}: ")
    assert len(site.holds("subscriber")) == before


TRITONS_OWN = set(WRONG) - {
    # A shape of a terabyte it takes for one of too few bytes, which has the same status; these it does not refuse.
    "shared memory",
    "reserved parameter",
    "timeout before now",
}


@pytest.mark.parametrize("case", sorted(TRITONS_OWN))
async def test_triton_itself_says_the_same(site: Site, case: str) -> None:
    message = ModelInferRequest()
    message.CopyFrom(WRONG[case][0])
    message.model_name = site.version("openlab/add").triton_name

    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await GRPCInferenceServiceStub(channel).ModelInfer(message)

    assert caught.value.code().name == ("NOT_FOUND" if case == "unknown version" else "INVALID_ARGUMENT")


async def test_what_is_no_message_is_internal_as_at_triton(site: Site, channel: grpc.aio.Channel) -> None:
    async with grpc.aio.insecure_channel(site.triton_grpc) as triton:
        codes = [
            (await refusal(each.unary_unary(f"{SERVICE}/ModelInfer")(b"\xff\xff", metadata=metadata))).code
            for each, metadata in ((channel, bearer(site.keys["subscriber"])), (triton, ()))
        ]

    assert codes == [grpc.StatusCode.INTERNAL] * 2


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    assert (await refusal(channel.unary_unary(f"{SERVICE}/Guess")(b""))).code is grpc.StatusCode.UNIMPLEMENTED


async def test_what_the_model_itself_refuses_has_tritons_status(site: Site, stub: Any) -> None:
    message = ModelInferRequest(model_name="openlab/lookup")
    message.inputs.add(name="index", datatype="INT64", shape=[1])
    message.raw_input_contents.append((99).to_bytes(8, "little"))

    ours = await refusal(stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"])))

    message.model_name = site.version("openlab/lookup").triton_name
    async with grpc.aio.insecure_channel(site.triton_grpc) as channel:
        tritons = await refusal(GRPCInferenceServiceStub(channel).ModelInfer(message))
    assert ours.code is tritons.code
    assert "out of data bounds" in ours.message


async def test_a_quota_that_is_used_up_says_when_to_come_back(site: Site, stub: Any) -> None:
    key = site.customer("openlab/add", included_units=1)
    await stub.ModelInfer(question(), metadata=bearer(key))

    refused = await refusal(stub.ModelInfer(question(), metadata=bearer(key)))

    assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert refused.retry_after is not None
    assert 60 < refused.retry_after < 32 * 24 * 3600


async def test_calling_too_fast_says_when_to_come_back(site: Site, stub: Any) -> None:
    key = site.customer("openlab/add", included_units=100, requests_per_second=1, burst=1)

    calls = [stub.ModelInfer(question(), metadata=bearer(key)) for _ in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    refused = [Refusal(outcome) for outcome in outcomes if isinstance(outcome, grpc.RpcError)]
    assert refused
    for each in refused:
        assert (each.code.name, each.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert each.retry_after is not None
        assert 0 < each.retry_after <= 1


async def test_a_model_on_no_server_is_unavailable_and_says_when_to_come_back(site: Site, stub: Any) -> None:
    refused = await refusal(stub.ModelInfer(question("openlab/unloaded"), metadata=bearer(site.keys["subscriber"])))

    assert (refused.code.name, refused.reason) == ("UNAVAILABLE", "MODEL_UNAVAILABLE")
    assert refused.retry_after


DAYS = 10**9  # turns


def countdown(turns: int) -> ModelInferRequest:
    message = ModelInferRequest(model_name="openlab/slow")
    message.inputs.add(name="turns", datatype="INT64", shape=[1])
    message.raw_input_contents.append(turns.to_bytes(8, "little"))
    return message


class TestTritonDown:
    async def test_calls_are_unavailable_say_when_to_ask_again_and_are_not_charged(
        self, site: Site, without_triton: Server
    ) -> None:
        key = site.customer("openlab/add")
        async with grpc.aio.insecure_channel(without_triton.grpc) as channel:
            stub: Any = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            refused = await refusal(stub.ModelInfer(question(), metadata=bearer(key)))

        assert (refused.code.name, refused.reason) == ("UNAVAILABLE", "MODEL_UNAVAILABLE")
        assert refused.retry_after
        assert [(hold.state, hold.charged) for hold in site.holds(key)] == [(HoldState.RELEASED, 0)]


class TestDeadlines:
    async def test_a_timeout_that_passes_is_a_deadline_exceeded_and_free(self, site: Site, stub: Any) -> None:
        key = site.customer("openlab/slow")
        message = countdown(DAYS)
        message.parameters["timeout"].int64_param = 100_000

        refused = await refusal(stub.ModelInfer(message, metadata=bearer(key)))

        assert (refused.code.name, refused.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert [hold.state for hold in site.holds(key)] == [HoldState.RELEASED]

    async def test_the_clients_own_deadline_ends_the_call_and_it_is_free(self, site: Site, stub: Any) -> None:
        key = site.customer("openlab/slow")

        seconds = 0.1
        # Too soon for a server with other things to do, and the call is over before it was admitted.
        while not site.holds(key):
            refused = await refusal(stub.ModelInfer(countdown(DAYS), metadata=bearer(key), timeout=seconds))
            assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
            seconds *= 2

        await until(lambda: {hold.state for hold in site.holds(key)} == {HoldState.RELEASED})

    async def test_a_caller_who_leaves_stops_the_work_and_pays_nothing(self, site: Site, stub: Any) -> None:
        key = site.customer("openlab/slow")
        calls = []
        for number in (1, 2):  # the second waits for its turn
            calls.append(stub.ModelInfer(countdown(DAYS), metadata=bearer(key)))
            await until(lambda number=number: len(site.holds(key)) == number)

        for call in calls:
            call.cancel()

        await until(lambda: {hold.state for hold in site.holds(key)} == {HoldState.RELEASED})
        # Whoever comes next is answered.
        await stub.ModelInfer(countdown(1), metadata=bearer(key))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  (another process fulfils it)
            await asyncio.sleep(0.02)


class TestIdempotency:
    async def test_the_same_key_answers_with_the_first_result_and_charges_once(self, site: Site, stub: Any) -> None:
        key = site.customer("openlab/add")
        metadata = bearer(key, idempotency_key="one")

        answers = [await stub.ModelInfer(question(id=each), metadata=metadata) for each in "ab"]

        assert [(each.id, list(each.raw_output_contents)) for each in answers] == [
            ("a", [fp32(3.75)]),
            ("b", [fp32(3.75)]),
        ]
        assert len(site.holds(key)) == 1

    async def test_with_another_request_it_is_a_conflict(self, site: Site, stub: Any) -> None:
        metadata = bearer(site.customer("openlab/add"), idempotency_key="one")
        await stub.ModelInfer(question(), metadata=metadata)

        refused = await refusal(stub.ModelInfer(with_contents(0, fp32(9)), metadata=metadata))

        assert (refused.code.name, refused.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_CONFLICT")


async def test_a_call_is_known_by_its_request_id_whatever_becomes_of_it(site: Site, stub: Any) -> None:
    async def told(call: Any) -> str:
        return dict(await call.trailing_metadata())["x-request-id"]

    answered = stub.ModelInfer(question(), metadata=bearer(site.keys["subscriber"], x_request_id="mine"))
    await answered
    refused = stub.ModelInfer(question(), metadata=(("x-request-id", "mine too"), ("x-request-id", "mine-too")))
    await refusal(refused)

    assert await told(answered) == "mine"
    assert await told(refused) == "mine-too"


async def test_a_message_that_is_too_large_is_refused_by_its_length(site: Site, stub: Any) -> None:
    message = with_contents(0, bytes(66 * 1024 * 1024))

    refused = await refusal(stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"])))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_that_is_too_large_once_inflated_is_refused(site: Site, stub: Any) -> None:
    message = with_contents(0, bytes(66 * 1024 * 1024))

    refused = await refusal(
        stub.ModelInfer(message, metadata=bearer(site.keys["subscriber"]), compression=grpc.Compression.Gzip)
    )

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
