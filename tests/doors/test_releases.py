"""32 tenants call through three doors while a version is a canary, promoted, rolled back, released.

No call fails. The outputs prove which version answered: the door says so, and so does the ledger. Whoever calls after a
change has been acknowledged is answered by what it changed to.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import httpx
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from graphql_api.nodes import global_id
from inference.oip import ModelInferRequest
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.metering.models import Hold
from marketplace.publishing import releases
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.doors.grpc_v2.calls import bearer
from tests.doors.site import Site

REF = "openlab/digits"
IMAGE = json.loads((Path(__file__).parents[2] / "demo/catalogue/digits/model.json").read_text())["inputs"][0]["example"]
SHAPE = [1, 1, 28, 28]
CALLERS = 32
INVOKE = """mutation ($input: InvokeModelInput!) { invokeModel(input: $input) {
  invocation { version { number } outputs { data } } errors { code message }
} }"""


class Answer(NamedTuple):
    """`number` is of the version. `since`: how many changes had been acknowledged when it was asked for; `until`: how
    many had been asked for when it came."""

    since: int
    until: int
    number: int
    scores: NDArray[np.float64]


Door = Callable[[str], Any]


@dataclass
class Doors:
    """Ways to ask for the image's scores, with a key: the number of the version that answered, and the scores."""

    site: Site
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    async def rest(self, key: str, version: int | None = None) -> tuple[int, list[float]]:
        which = "" if version is None else f"/versions/{version}"
        tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "data": IMAGE}
        answer = await self.http.post(
            f"/v2/models/{REF}{which}/infer", headers=self.site.headers(key), json={"inputs": [tensor]}
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return int(told["model_version"]), told["outputs"][0]["data"]

    async def graphql(self, key: str) -> tuple[int, list[float]]:
        tensor = {"name": "image", "datatype": "FP32", "shape": SHAPE, "data": IMAGE}
        invocation = (await self.mutation(key, INVOKE, model=REF, inputs=[tensor]))["invocation"]
        return invocation["version"]["number"], invocation["outputs"][0]["data"][0]

    async def grpc(self, key: str) -> tuple[int, list[float]]:
        message = ModelInferRequest(model_name=REF, raw_input_contents=[struct.pack(f"<{len(IMAGE)}f", *IMAGE)])
        message.inputs.add(name="image", datatype="FP32", shape=SHAPE)
        answer = await GRPCInferenceServiceStub(self.channel).ModelInfer(message, metadata=bearer(key))
        return int(answer.model_version), np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()

    async def mutation(self, key: str, document: str, **input: Any) -> dict[str, Any]:
        content = {"query": document, "variables": {"input": input}}
        answer = (await self.http.post("/graphql", headers=self.site.headers(key), json=content)).json()
        (payload,) = answer["data"].values()
        assert not payload["errors"], answer
        return dict(payload)


@dataclass
class Caller:
    """A tenant of its own, which asks again as soon as it is answered."""

    key: str
    ask: Door
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass
class Load:
    callers: list[Caller]
    asked_for: int = 0
    acknowledged: int = 0
    over: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, caller: Caller) -> None:
        while not self.over:
            since = self.acknowledged
            try:
                number, scores = await caller.ask(caller.key)
            except Exception as error:  # whatever it is, it is a failed call
                caller.failures.append(repr(error))
                return
            finally:
                self.answered.set()
            caller.answers.append(Answer(since, self.asked_for, number, np.array(scores)))

    async def has_seen(self) -> None:
        """Returns once everybody was answered twice to what they asked after the last change."""
        for caller in self.callers:
            while not caller.failures and sum(answer.since == self.acknowledged for answer in caller.answers[-2:]) < 2:
                self.answered.clear()
                await self.answered.wait()


@contextmanager
def as_it_was(site: Site) -> Iterator[None]:
    """openlab/digits is put back: version 1 live, version 2 not released."""
    fields = ("status", "released_at", "live_before")
    before = site.records(lambda: list(ModelVersion.objects.filter(model__name="digits").values("pk", *fields)))
    yield

    def put_back() -> None:
        model = MLModel.objects.by_ref(REF).get()
        model.canary_version, model.canary_percent, model.releasing_version = None, 0, None
        model.live_version = model.versions.get(number=1)
        ModelVersion.objects.filter(model=model).update(status="READY")
        for values in sorted(before, key=lambda row: row["status"], reverse=True):
            ModelVersion.objects.filter(pk=values.pop("pk")).update(**values)
        model.save()

    site.records(put_back)


@asynccontextmanager
async def calling(site: Site, doors: Doors) -> AsyncIterator[Load]:
    def customers() -> list[str]:
        model = MLModel.objects.by_ref(REF).get()
        plan = factories.plan(model, included_units=10**6, requests_per_second=10**4, burst=10**4)
        tenants = [factories.tenant() for _ in range(CALLERS)]
        for tenant in tenants:
            factories.subscription(tenant, plan)
        return [factories.api_key(tenant) for tenant in tenants]

    ways: list[Door] = [doors.rest, doors.graphql, doors.grpc]
    who = await asyncio.to_thread(site.records, customers)
    load = Load([Caller(key, ways[place % len(ways)]) for place, key in enumerate(who)])
    async with asyncio.TaskGroup() as tasks:
        for caller in load.callers:
            tasks.create_task(load.call(caller))
        try:
            yield load
        finally:
            load.over = True


def recorded(site: Site, load: Load) -> list[list[int]]:
    """The numbers of the versions that the ledger has, for each caller in the order of its calls."""

    def found() -> list[list[int]]:
        tenants = dict(ApiKey.objects.values_list("digest", "tenant"))
        return [
            list(
                Hold.objects.filter(tenant=tenants[keys.digest(caller.key)], state="settled")
                .order_by("id")
                .values_list("version__number", flat=True)
            )
            for caller in load.callers
        ]

    return site.records(found)


async def test_no_call_fails_and_each_is_answered_by_one_version(site: Site) -> None:
    second = site.version(REF, 2)
    settings = {"timeout": 60, "limits": httpx.Limits(max_connections=CALLERS + 1), "verify": False}
    with as_it_was(site):
        async with (
            httpx.AsyncClient(base_url=site.url, **settings) as http,  # type: ignore[arg-type]
            grpc.aio.insecure_channel(site.grpc) as channel,
        ):
            doors = Doors(site, http, channel)
            scores = {number: np.array((await doors.rest("owner", number))[1]) for number in (1, 2)}
            apart = float(np.abs(scores[1] - scores[2]).max())

            async def change(mutation: str, kind: str, *, loaded: bool = False, **input: Any) -> None:
                document = "mutation ($input: %sInput!) { %s(input: $input) { errors { code message } } }"
                load.asked_for += 1
                await doors.mutation("owner", document % (kind, mutation), **input)
                if loaded:
                    # What the reconciler does once every server has it.
                    await asyncio.to_thread(site.records, lambda: releases.promote_ready([second.pk]))
                load.acknowledged += 1
                await load.has_seen()

            async with calling(site, doors) as load:
                await load.has_seen()
                version = global_id("ModelVersion", second.pk)
                await change("setCanary", "SetCanary", loaded=True, model=REF, modelVersion=version, percent=50)
                await change("promoteCanary", "PromoteCanary", model=REF)
                await change("rollbackModel", "RollbackModel", model=REF)
                await change("releaseModelVersion", "ReleaseModelVersion", loaded=True, modelVersion=version)
                await change("rollbackModel", "RollbackModel", model=REF)

    assert [caller.failures for caller in load.callers] == [[]] * CALLERS
    shares = []
    for caller, written in zip(load.callers, await asyncio.to_thread(recorded, site, load), strict=True):
        assert [answer.number for answer in caller.answers] == written
        for answer in caller.answers:
            # Calls that run together change the last digits of each other's scores; versions are further apart.
            assert np.abs(answer.scores - scores[answer.number]).max() < apart / 10
        # What was asked for and answered between two changes; who calls across one may get either's.
        between = [
            {answer.number for answer in caller.answers if answer.since == answer.until == change}
            for change in range(load.acknowledged + 1)
        ]
        shares.append(between.pop(1))
        assert between == [{1}, {2}, {1}, {2}, {1}]
    # The canary has some of the tenants, and keeps to them.
    assert sorted(map(tuple, shares))[:: CALLERS - 1] == [(1,), (2,)]
    assert {len(share) for share in shares} == {1}
