"""Desired state on a real Triton: processes that die, servers that are killed, requests that are merged."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from pytest_django import Settings

from graphql_api.nodes import global_id
from inference import gateway, repository
from inference.deployment import reconciler
from inference.formats import read_signature
from inference.invocation import Invocation, invoke
from inference.models import Deployment
from inference.tensors import RawTensor
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import Direction, ModelVersion
from marketplace.errors import InputRefused
from marketplace.objects import store
from marketplace.publishing.versions import Tensor, add_version
from tests import factories
from tests.graphql_api.caller import Caller
from tests.inference import graphs
from tests.inference.processes import paused, processes_of
from tests.inference.test_gateway import Server, until

pytestmark = pytest.mark.django_db(transaction=True)

CONFIGURE = """
mutation ($input: ConfigureModelVersionInput!) {
  configureModelVersion(input: $input) {
    modelVersion { instanceCount maxBatchSize responseCache deployments { endpoint status } }
    errors { __typename message path }
  }
}"""


class Lab:
    """openlab, which calls its own models, `openlab/<name>`."""

    def __init__(self) -> None:
        self.tenant = factories.tenant("openlab", is_publisher=True)
        self.owner = factories.principal(self.tenant)
        self.caller = Caller(user=factories.member(self.tenant))

    async def version(self, artifact: bytes, name: str, **fields: Any) -> ModelVersion:
        def make() -> ModelVersion:
            sha256, size = store().put(artifact)
            signature = read_signature(artifact)
            version = add_version(
                self.owner,
                model=factories.model(self.tenant, name),
                sha256=sha256,
                size_bytes=size,
                signature=[
                    Tensor(direction, each.name, each.datatype, each.shape)
                    for direction, tensors in (
                        (Direction.INPUT, signature.inputs),
                        (Direction.OUTPUT, signature.outputs),
                    )
                    for each in tensors
                ],
            )
            ModelVersion.objects.filter(pk=version.pk).update(**fields)
            version.refresh_from_db()
            return version

        version: ModelVersion = await sync_to_async(make)()
        return version

    async def call(
        self, name: str, *inputs: tuple[str, str, Any], principal: Principal | None = None, **how: Any
    ) -> Invocation:
        tensors = [
            RawTensor(name=tensor, datatype=datatype, shape=list(np.shape(value)), data=np.ravel(value).tolist())
            for tensor, datatype, value in inputs
        ]
        return await invoke(principal or self.owner, ref=f"openlab/{name}", inputs=tensors, version=1, **how)

    async def add(self, name: str, **how: Any) -> Invocation:
        return await self.call(name, ("A", "FP32", [1.5]), ("B", "FP32", [2.0]), **how)

    async def configure(self, version: ModelVersion, **change: Any) -> dict[str, Any]:
        asked = {"modelVersion": global_id("ModelVersion", version.pk), **change}
        answer: dict[str, Any] = await self.caller.aask(CONFIGURE, input=asked)
        assert "errors" not in answer, answer
        return dict(answer["data"]["configureModelVersion"])


@pytest_asyncio.fixture
async def lab(settings: Settings, tmp_path: Path, transactional_db: None) -> AsyncIterator[Lab]:
    settings.OBJECTS_DIR = tmp_path / "objects"
    yield await sync_to_async(Lab)()
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


async def failure(version: ModelVersion) -> str:
    row = await Deployment.objects.aget(version=version)
    assert row.status == "FAILED"
    return row.error


async def test_a_process_that_died_is_found_and_mended_before_anybody_calls(lab: Lab) -> None:
    version = await lab.version(graphs.add(), "add", instance_count=2)
    await reconciler.reconcile()
    row = await Deployment.objects.aget()
    assert row.processes == 2
    assert row.memory_bytes > 2 * 30 * 10**6
    [_first, second] = [pid for index in (0, 1) for pid in processes_of(version.triton_name, index)]
    os.kill(second, signal.SIGKILL)
    await until(lambda: asyncio.sleep(0, not processes_of(version.triton_name, 1)))

    await reconciler.reconcile()

    assert len(processes_of(version.triton_name, 1)) == 1
    assert (await lab.add("add")).outputs


async def test_a_server_that_is_killed_in_the_middle_comes_back_with_the_same_set(
    lab: Lab, tmp_path: Path, settings: Settings
) -> None:
    server = Server(tmp_path / "triton")
    await server.start()
    settings.TRITON_URLS = [server.address]
    names = {(await lab.version(graphs.add(), f"add-{number}")).triton_name for number in range(6)}
    rounds = asyncio.create_task(reconciler.reconcile())
    await until(Deployment.objects.filter(status="READY").aexists)

    server.process.kill()
    await server.process.wait()
    await rounds
    await server.start()
    await until(lambda: gateway.is_server_live(server.address))

    async def back() -> bool:
        await reconciler.reconcile()
        return await Deployment.objects.filter(status="READY").acount() == len(names)

    await until(back)
    assert {each.model for each in await gateway.statistics(server.address)} == names
    assert (await lab.add("add-3")).outputs
    await gateway.close()
    server.process.kill()
    await server.process.wait()


async def test_nobody_who_calls_meanwhile_notices_that_settings_change(lab: Lab) -> None:
    version = await lab.version(graphs.add(), "add")
    await reconciler.reconcile()
    key = await sync_to_async(factories.api_key_row)(lab.tenant)
    by_key = replace(lab.owner, api_key_id=key.pk, role=TenantRole(key.role))
    ended = asyncio.Event()
    answers: list[Any] = []

    async def keep_calling() -> None:
        while not ended.is_set():
            answer = await asyncio.shield(lab.add("add", principal=by_key, hinted=bool(answers)))
            assert answer.outputs
            answers.append(answer.outputs[0].data())

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(keep_calling())
        for instances in (2, 1):
            assert (await lab.configure(version, instanceCount=instances))["errors"] == []
            await version.arefresh_from_db()
            [old] = [row.name async for row in Deployment.objects.filter(status="READY")]
            before = len(answers)

            async def replaced(gone: str = old) -> bool:
                await reconciler.reconcile()
                return not await Deployment.objects.filter(name=gone).aexists()

            await until(replaced)
            assert len(answers) > before
        ended.set()

    assert set(map(tuple, answers)) == {(3.5,)}
    assert [row.name async for row in Deployment.objects.all()] == [version.triton_name]


async def test_a_first_call_that_does_not_end_has_a_version_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "WARM_UP_SECONDS", 0.2)
    version = await lab.version(graphs.endless(), "endless")

    await reconciler.reconcile()

    assert "its first call took longer than 0.2 seconds" in await failure(version)


async def test_an_invented_call_that_fails_proves_nothing_and_none_is_counted(lab: Lab) -> None:
    version = await lab.version(graphs.unlucky(), "unlucky")

    await reconciler.reconcile()

    [counted] = [
        each
        for each in await gateway.statistics((await Deployment.objects.aget()).endpoint)
        if each.model == version.triton_name
    ]
    assert (counted.succeeded, counted.failed) == (0, 0)
    answer = await lab.call("unlucky", ("index", "INT64", [5]))
    assert answer.outputs
    assert answer.outputs[0].data() == [5.0]


class TestMerging:
    async def test_answers_are_those_that_each_request_has_alone(self, lab: Lab) -> None:
        version = await lab.version(graphs.scaled(), "scaled")
        configured = await lab.configure(version, maxBatchSize=16)
        assert configured["errors"] == []
        assert configured["modelVersion"]["maxBatchSize"] == 16
        await reconciler.reconcile()
        await version.arefresh_from_db()
        random = np.random.default_rng(3)
        inputs = [random.normal(size=(rows, 4)).astype(np.float32) for rows in (1, 2, 3) * 4]

        with paused(version.triton_name):
            calls = [asyncio.create_task(lab.call("scaled", ("x", "FP32", each))) for each in inputs]
            await until(lambda: waiting_for(version, len(calls)))
        answers = await asyncio.gather(*calls)

        for given, answer in zip(inputs, answers, strict=True):
            assert answer.outputs
            (alone,) = graphs.run(graphs.scaled(), {"x": given})
            np.testing.assert_allclose(answer.outputs[0].data(), alone, rtol=1e-5)
        [counters] = await gateway.model_counters((await Deployment.objects.aget()).endpoint, version.triton_name)
        assert counters["execution_count"] < len(inputs)

    async def test_it_is_refused_where_it_would_change_answers(self, lab: Lab) -> None:
        version = await lab.version(graphs.centred(), "centred")

        answer = await lab.configure(version, maxBatchSize=8)

        assert answer["modelVersion"] is None
        [problem] = answer["errors"]
        assert (problem["__typename"], problem["path"]) == ("ValidationProblem", "input.maxBatchSize")
        assert "merging requests would change its answers, in 'centred'" in problem["message"]
        await version.arefresh_from_db()
        assert version.max_batch_size == 0

    async def test_a_request_of_more_rows_is_refused_in_words_that_hide_our_names(self, lab: Lab) -> None:
        version = await lab.version(graphs.scaled(), "scaled", max_batch_size=2)
        await reconciler.reconcile()

        with pytest.raises(InputRefused, match="batch-size must be <= 2") as refused:
            await lab.call("scaled", ("x", "FP32", np.zeros((3, 4))))

        assert str(version.model_id) not in refused.value.message


async def waiting_for(version: ModelVersion, calls: int) -> bool:
    """Whether so many requests have come to Triton, where the first of them is with the model."""
    return await version.holds.filter(state__in=["held", "executing"]).acount() == calls
