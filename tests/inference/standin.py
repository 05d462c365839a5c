"""A server that speaks Triton's protocol and runs nothing: it loads, answers and forgets when a test says so."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server


@dataclass
class Loaded:
    config: dict[str, Any]
    number: int
    calls: int = 0
    last_call: int = 0


@dataclass
class Gate:
    """Whoever comes to it waits until it is opened; `reached` tells that somebody has."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def passed(self) -> None:
        self.reached.set()
        await self.opened.wait()


class Standin(GRPCInferenceServiceServicer):  # type: ignore[misc]  # tritonclient's stubs have no types
    """`models`: what it has loaded, by name. `asked`: how often which method was called.

    Loading waits at `load_gates` and calls at `call_gates`, by name; loading what is in `refuses` fails with its words.
    Every answer is one FP32, `SUM`, the number of calls that this load has answered.
    """

    def __init__(self) -> None:
        self.models: dict[str, Loaded] = {}
        self.asked: Counter[str] = Counter()
        self.loads: list[str] = []
        self.load_gates: dict[str, Gate] = {}
        self.call_gates: dict[str, Gate] = {}
        self.refuses: dict[str, str] = {}
        self.address = ""

    async def start(self) -> None:
        self.server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self.server.start()

    async def stop(self) -> None:
        """And forget everything, as a Triton that is killed."""
        await self.server.stop(None)
        self.models.clear()

    async def ServerLive(self, _request: Any, _context: Any) -> Any:
        self.asked["ServerLive"] += 1
        return oip.ServerLiveResponse(live=True)

    async def ModelReady(self, request: Any, _context: Any) -> Any:
        self.asked["ModelReady"] += 1
        return oip.ModelReadyResponse(ready=request.name in self.models)

    async def ModelStatistics(self, _request: Any, _context: Any) -> Any:
        self.asked["ModelStatistics"] += 1
        answer = oip.ModelStatisticsResponse()
        for name, model in self.models.items():
            answer.model_stats.add(name=name, version=str(model.number), last_inference=model.last_call)
        return answer

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        self.asked["ModelConfig"] += 1
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")
        answer = oip.ModelConfigResponse()
        for name, value in self.models[request.name].config.get("parameters", {}).items():
            answer.config.parameters[name].string_value = value["string_value"]
        return answer

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        self.asked["RepositoryModelLoad"] += 1
        name = request.model_name
        self.loads.append(name)
        if name in self.load_gates:
            await self.load_gates[name].passed()
        if name in self.refuses:
            await context.abort(grpc.StatusCode.INTERNAL, self.refuses[name])
        file = next(key for key in request.parameters if key.startswith("file:"))
        number = int(file.removeprefix("file:").split("/")[0])
        self.models[name] = Loaded(json.loads(request.parameters["config"].string_param), number)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, _context: Any) -> Any:
        self.asked["RepositoryModelUnload"] += 1
        self.models.pop(request.model_name, None)
        return oip.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked["ModelInfer"] += 1
        name = request.model_name
        if name in self.call_gates:
            await self.call_gates[name].passed()
        model = self.models.get(name)
        if model is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        assert model is not None
        model.calls += 1
        answer = oip.ModelInferResponse(model_name=name)
        answer.outputs.add(name="SUM", datatype="FP32", shape=[1])
        answer.raw_output_contents.append(b"\0\0\x80\x3f")
        return answer
