"""Callers of openlab/digits who never stop, and know which version answered them: its outputs prove it."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import grpc.aio
import httpx
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from inference.oip import ModelInferRequest
from tests.doors.grpc_v2.calls import bearer

REF = "openlab/digits"
IMAGE = json.loads((Path(__file__).parents[2] / "demo/catalogue/digits/model.json").read_text())["inputs"][0]["example"]
SHAPE = [1, 1, 28, 28]
INVOKE = """mutation ($input: InvokeModelInput!) { invokeModel(input: $input) {
  invocation { version { number } outputs { data } } errors { code message }
} }"""


class Unavailable(Exception):
    """As each door says it."""


class Answer(NamedTuple):
    """`number` is of the version. `since`: how many changes had been acknowledged when it was asked for; `until`: how
    many had been asked for when it came, which was `at` (seconds of the monotonic clock)."""

    since: int
    until: int
    at: float
    number: int
    scores: NDArray[np.float64]


Door = Callable[[str], Awaitable[tuple[int, list[float]]]]


@dataclass
class Doors:
    """Ways to ask for the image's scores, with a key: the number of the version that answered, and the scores."""

    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    @property
    def ways(self) -> tuple[Door, ...]:
        return self.rest, self.graphql, self.grpc

    async def rest(self, key: str, version: int | None = None) -> tuple[int, list[float]]:
        which = "" if version is None else f"/versions/{version}"
        tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "data": IMAGE}
        content = {"inputs": [tensor]}
        answer = await self.http.post(f"/v2/models/{REF}{which}/infer", headers=_headers(key), json=content)
        if answer.status_code == 503:
            raise Unavailable(answer.text)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return int(told["model_version"]), told["outputs"][0]["data"]

    async def graphql(self, key: str) -> tuple[int, list[float]]:
        tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "data": IMAGE}
        invocation = (await self._asked(key, INVOKE, model=REF, inputs=[tensor]))["invocation"]
        return invocation["version"]["number"], invocation["outputs"][0]["data"][0]

    async def grpc(self, key: str) -> tuple[int, list[float]]:
        message = ModelInferRequest(model_name=REF, raw_input_contents=[struct.pack(f"<{len(IMAGE)}f", *IMAGE)])
        message.inputs.add(name="image", datatype="FP32", shape=SHAPE)
        try:
            answer = await GRPCInferenceServiceStub(self.channel).ModelInfer(message, metadata=bearer(key))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise Unavailable(error.details()) from error
            raise
        return int(answer.model_version), np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()

    async def mutate(self, key: str, name: str, **input: Any) -> None:
        kind = name[0].upper() + name[1:]
        await self._asked(
            key, f"mutation ($input: {kind}Input!) {{ {name}(input: $input) {{ errors {{ code message }} }} }}", **input
        )

    async def _asked(self, key: str, document: str, **input: Any) -> dict[str, Any]:
        content = {"query": document, "variables": {"input": input}}
        answer = (await self.http.post("/graphql", headers=_headers(key), json=content)).json()
        (payload,) = answer["data"].values()
        if [error["code"] for error in payload["errors"]] == ["MODEL_UNAVAILABLE"]:
            raise Unavailable(answer)
        assert not payload["errors"], answer
        return dict(payload)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@asynccontextmanager
async def doors_of(url: str, grpc_address: str, most: int) -> AsyncIterator[Doors]:
    limits = httpx.Limits(max_connections=most)
    async with (
        # verify: reading the machine's certificates takes a while.
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits, verify=False) as http,
        grpc.aio.insecure_channel(grpc_address) as channel,
    ):
        yield Doors(http, channel)


@dataclass
class Caller:
    """A tenant of its own, which asks again as soon as it is answered."""

    key: str
    ask: Door
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refusals: int = 0


@dataclass
class Load:
    """While `away`, callers take it that nothing is available."""

    callers: list[Caller]
    asked_for: int = 0
    acknowledged: int = 0
    away: bool = False
    over: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self, work: Awaitable[object]) -> None:
        """Returns once everybody was answered twice to what they asked for after it was done."""
        self.asked_for += 1
        await work
        self.acknowledged += 1
        await self.is_seen()

    async def is_seen(self) -> None:
        for caller in self.callers:
            while not (
                caller.failures or sum(answer.since == self.acknowledged for answer in caller.answers[-2:]) == 2
            ):
                self.answered.clear()
                await self.answered.wait()

    async def call(self, caller: Caller) -> None:
        while not self.over:
            since, away = self.acknowledged, self.away
            try:
                number, scores = await caller.ask(caller.key)
            except Unavailable as error:
                if away or self.away:
                    caller.refusals += 1
                    await asyncio.sleep(0.1)
                    continue
                caller.failures.append(repr(error))
                return
            except Exception as error:  # whatever it is, it is a failed call
                caller.failures.append(repr(error))
                return
            finally:
                self.answered.set()
            caller.answers.append(Answer(since, self.asked_for, monotonic(), number, np.array(scores)))


@asynccontextmanager
async def calling(keys: list[str], doors: Doors) -> AsyncIterator[Load]:
    """One caller for each key, each by one of the doors."""
    load = Load([Caller(key, doors.ways[place % len(doors.ways)]) for place, key in enumerate(keys)])
    async with asyncio.TaskGroup() as tasks:
        for caller in load.callers:
            tasks.create_task(load.call(caller))
        try:
            await load.is_seen()
            yield load
        finally:
            load.over = True
