# ruff: noqa: ASYNC109  (these timeouts are gRPC deadlines: the server learns of them, as it would not of a cancellation)
"""The way to Triton over gRPC (Open Inference Protocol v2 with Triton's repository extension).

One channel per event loop and address is shared by all callers. Bytes go through as they are: no numpy on the way.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from tritonclient.grpc.service_pb2 import (  # type: ignore[attr-defined]  # generated at import
    ModelConfigRequest,
    ModelInferRequest,
    ModelInferResponse,
    ModelReadyRequest,
    ModelStatisticsRequest,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
    ServerLiveRequest,
)
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.failures import (
    INTERNAL_TO_GRPC,
    MAX_ANSWER_BYTES,
    away,
    failure,
    late,
    stream_failure,
    words,
)
from inference.failures import ModelBroken as ModelBroken  # noqa: PLC0414  (what it raises is part of it)
from inference.generation import STOP, Generation, ended
from inference.tensors import Datatype, InferenceRequest, Tensor, check_content
from marketplace import trace
from marketplace.errors import InferenceFailed, ValidationProblem

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),  # models are uploaded through the same channel
    # A restarted server is found again within a second; by default the waits grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Five minutes are the least that a gRPC server lets pass by default. On Linux the second number is also
    # TCP_USER_TIMEOUT: a host that vanished is noticed by the next call, not after the kernel's 15 minutes.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.enable_http_proxy", 0),
)


class _Connection:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.stub = GRPCInferenceServiceStub(self.channel)  # type: ignore[no-untyped-call]


_connections: dict[asyncio.AbstractEventLoop, dict[str, _Connection]] = {}


def _stub(address: str) -> Any:
    """A channel belongs to the event loop that it was opened in, and ends with it."""
    loop = asyncio.get_running_loop()
    connections = _connections.get(loop)
    if connections is None:
        for ended in [each for each in _connections if each.is_closed()]:
            del _connections[ended]
        connections = _connections[loop] = {}
    connection = connections.get(address)
    if connection is None:
        connection = connections[address] = _Connection(address)
    return connection.stub


async def close() -> None:
    """Closes the channels of the running event loop, once no stream that was left is still being read."""
    await ended()
    for connection in _connections.pop(asyncio.get_running_loop(), {}).values():
        await connection.channel.close()


async def infer(
    address: str, model: str, request: InferenceRequest, *, timeout: float, request_id: str = ""
) -> tuple[Tensor, ...]:
    """The model's outputs: those asked for in the order asked for, otherwise all in Triton's order.

    `timeout` in seconds. Cancelling the caller cancels the call at the server. Raises ModelUnavailable (ModelBroken for
    one) where another server or another time could answer, and InferenceFailed where the model would not.
    """
    try:
        response = await _stub(address).ModelInfer(
            _message(model, request, request_id), timeout=timeout, metadata=_metadata()
        )
    except grpc.aio.AioRpcError as error:
        raise failure(error, timeout) from error
    return _outputs(response, request.outputs)


async def stream(
    address: str, model: str, request: InferenceRequest, *, timeout: float, request_id: str = "", stoppable: bool = True
) -> AsyncGenerator[tuple[Tensor, ...]]:
    """Each of the model's answers as it comes: many of a decoupled model, one of another. Raises as `infer` does.

    Closing it stops the model's work, if it is `stoppable` (generation.STOP). What nobody asks for waits at the server:
    HTTP/2 lets a window of it through.
    """
    request_id = request_id or uuid4().hex  # by which the model knows what it is to stop
    message = _message(model, request, request_id)
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    stop = None
    if stoppable:
        stop = ModelInferRequest()
        stop.CopyFrom(message)
        stop.id = f"{request_id}:stop"
        stop.parameters[STOP].string_param = request_id
    generation = Generation(_stub(address).ModelStreamInfer(metadata=_metadata()), message, stop)
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                response = await generation.next()
            if response is None:
                if not generation.complete:
                    raise away()
                return
            if response.error_message:
                raise stream_failure(response.error_message)
            yield _outputs(response.infer_response, request.outputs)
    except TimeoutError as error:
        raise late(timeout) from error
    except grpc.aio.AioRpcError as error:
        raise away() if INTERNAL_TO_GRPC in words(error) else failure(error, timeout) from error
    finally:
        generation.leave()


async def only(answers: AsyncIterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The one answer of a model that was asked not to stream. Raises InferenceFailed for none, and for more."""
    found = [outputs async for outputs in answers]
    if len(found) != 1:
        raise InferenceFailed(f"The model answered {len(found)} times, where one answer was asked for. Stream it.")
    return found[0]


async def load(
    address: str, model: str, config: Mapping[str, Any], files: Mapping[str, bytes], *, timeout: float = 120
) -> None:
    """Uploads and loads a model; one that is loaded with the same configuration and files stays as it is.

    `files`: paths in the model's folder -> contents, as in {"1/model.onnx": ...}. `timeout` in seconds. Raises
    ModelUnavailable when the server does not answer, InferenceFailed when it refuses the model.
    """
    message = RepositoryModelLoadRequest(model_name=model)
    message.parameters["config"].string_param = json.dumps(config)
    for path, content in files.items():
        message.parameters[f"file:{path}"].bytes_param = content
    try:
        await _stub(address).RepositoryModelLoad(message, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        # Loading an ensemble, Triton looks for its steps in the repository, where uploaded ones are not. It says so,
        # and loads the ensemble with the steps that it has.
        if "failed to poll from model repository" in words(error) and await is_model_ready(address, model):
            return
        raise failure(error, timeout, "The model cannot be loaded") from error


async def unload(address: str, model: str, *, timeout: float = 30) -> None:
    """Unloads a model; one that is not loaded is none. `timeout` in seconds. Raises ModelUnavailable."""
    try:
        await _stub(address).RepositoryModelUnload(RepositoryModelUnloadRequest(model_name=model), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise failure(error, timeout) from error


async def is_server_live(address: str, *, timeout: float = 2) -> bool:
    """False as well when nothing answers within `timeout` seconds.

    Triton's own "ready" is not asked: it is false whenever any model is not, as while another one is being unloaded.
    """
    try:
        return bool((await _stub(address).ServerLive(ServerLiveRequest(), timeout=timeout)).live)
    except grpc.aio.AioRpcError:
        return False


async def is_model_ready(address: str, model: str, *, timeout: float = 2) -> bool:
    """False as well when nothing answers within `timeout` seconds. True is no proof of health: see ModelBroken."""
    try:
        return bool((await _stub(address).ModelReady(ModelReadyRequest(name=model), timeout=timeout)).ready)
    except grpc.aio.AioRpcError:
        return False


async def parameter(address: str, model: str, name: str, *, timeout: float = 5) -> str | None:
    """What a loaded model's configuration says of a parameter. None as well for a model that is not loaded.

    Raises ModelUnavailable.
    """
    try:
        response = await _stub(address).ModelConfig(ModelConfigRequest(name=model), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}:
            return None
        raise failure(error, timeout) from error
    parameters = response.config.parameters
    return parameters[name].string_value if name in parameters else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What Triton has counted for a model since that version of it was loaded: calls (Triton's statistics extension).

    `succeeded` includes `cached`, what the response cache answered; calls whose caller had left or given up by the time
    that they ended; and, of Python-based backends, calls that the model answered with an error. Warm-ups and requests
    refused for their tensors count nowhere. `last_call` in milliseconds since 1970, 0 for none.
    """

    model: str
    version: int
    succeeded: int
    failed: int
    cached: int
    last_call: int


async def statistics(address: str, *, timeout: float = 5) -> list[Statistics]:
    """Of every model that is loaded there, an ensemble's steps among them. Raises ModelUnavailable."""
    try:
        response = await _stub(address).ModelStatistics(ModelStatisticsRequest(), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise failure(error, timeout) from error
    return [
        Statistics(
            model=each.name,
            version=int(each.version),
            succeeded=each.inference_stats.success.count,
            failed=each.inference_stats.fail.count,
            cached=each.inference_stats.cache_hit.count,
            last_call=each.last_inference,
        )
        for each in response.model_stats
    ]


async def model_counters(address: str, model: str = "", *, timeout: float = 5) -> list[dict[str, Any]]:
    """What Triton's statistics extension says of a model that is loaded there, or of all, in the form of its JSON.

    Nothing for a model that is not loaded. Raises ModelUnavailable.
    """
    try:
        response = await _stub(address).ModelStatistics(ModelStatisticsRequest(name=model), timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return []
        raise failure(error, timeout) from error
    return [
        {
            "name": each.name,
            "version": each.version,
            "last_inference": each.last_inference,
            "inference_count": each.inference_count,
            "execution_count": each.execution_count,
            "inference_stats": {
                of.name: {"count": duration.count, "ns": duration.ns}
                for of in each.inference_stats.DESCRIPTOR.fields
                for duration in (getattr(each.inference_stats, of.name),)
            },
        }
        for each in response.model_stats
    ]


def _metadata() -> tuple[tuple[str, str], ...]:
    """What ties Triton's own trace to ours."""
    of = trace.current.get()
    if not of.request_id:
        return ()
    request_id = (("x-request-id", of.request_id),)
    return (*request_id, ("traceparent", of.traceparent)) if of.traceparent else request_id


def _message(model: str, request: InferenceRequest, request_id: str) -> ModelInferRequest:
    message = ModelInferRequest(model_name=model, id=request_id)
    for tensor in request.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        message.raw_input_contents.append(tensor.content)
    for name in request.outputs or ():
        message.outputs.add(name=name)
    for name, value in request.parameters.items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            parameter.int64_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = value
    return message


def _outputs(response: ModelInferResponse, wanted: tuple[str, ...] | None) -> tuple[Tensor, ...]:
    contents = response.raw_output_contents
    if len(contents) != len(response.outputs):
        raise InferenceFailed("The model's answer has outputs without contents.")
    tensors = {}
    for output, content in zip(response.outputs, contents, strict=True):
        datatype, shape = Datatype(output.datatype), tuple(output.shape)
        try:
            # A backend whose numpy does not fit it answers with nothing where there should be something.
            check_content(content, datatype, prod(shape), path=output.name)
        except ValidationProblem as error:
            raise InferenceFailed(f"The model's answer is broken, at {output.name!r}: {error.message}") from error
        tensors[output.name] = Tensor(output.name, datatype, shape, content)
    if wanted is None:
        return tuple(tensors.values())
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise InferenceFailed(f"The model did not answer with {', '.join(missing)}.")
    return tuple(tensors[name] for name in wanted)
