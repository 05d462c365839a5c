"""Desired state: what a round does about what it finds, and that nobody who calls meanwhile notices.

The server stands in for Triton where a test says when a load ends; the last tests have a real one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from inference import dispatch, gateway
from inference.deployment import demand, desired, reconciler
from inference.invocation import Invocation, invoke
from inference.models import Deployment
from inference.tensors import RawTensor
from inference.versions import Place, endpoints_of
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.errors import ModelUnavailable
from marketplace.metering.models import Hold
from marketplace.objects import store
from marketplace.publishing import releases
from marketplace.publishing.configuration import configure
from marketplace.publishing.releases import release, retire
from tests import factories
from tests.inference import graphs
from tests.inference.standin import Gate, Loaded, Standin

pytestmark = pytest.mark.django_db(transaction=True)

INPUTS = [RawTensor(name=name, datatype="FP32", shape=[1], data=[1.5]) for name in "AB"]
MB = 10**6


class Lab:
    """openlab, which calls its own models, `openlab/<name>`."""

    def __init__(self) -> None:
        self.tenant = factories.tenant("openlab", is_publisher=True)
        self.owner = factories.principal(self.tenant)
        self.artefact = dict(zip(("sha256", "size_bytes"), store().put(graphs.add()), strict=True))

    async def version(self, name: str, status: str = "READY", **fields: Any) -> ModelVersion:
        def make() -> ModelVersion:
            model = MLModel.objects.filter(name=name).first() or factories.model(self.tenant, name)
            return factories.version(model, status=status, **self.artefact | fields)

        return await sync_to_async(make)()

    async def release(self, version: ModelVersion) -> None:
        await sync_to_async(release)(self.owner, version_id=version.pk)

    async def configure(self, version: ModelVersion, **settings: Any) -> str:
        """The name that it is to have from now on."""
        configured = await sync_to_async(configure)(self.owner, version_id=version.pk, **settings)
        return configured.triton_name

    async def call(self, name: str, **arguments: Any) -> Invocation:
        return await invoke(self.owner, **{"ref": f"openlab/{name}", "inputs": INPUTS} | arguments)


@pytest_asyncio.fixture
async def lab(settings: Settings, tmp_path: Path, transactional_db: None) -> Lab:
    settings.OBJECTS_DIR = tmp_path
    return await sync_to_async(Lab)()


@pytest_asyncio.fixture
async def servers(settings: Settings) -> AsyncIterator[tuple[Standin, Standin]]:
    both = (Standin(), Standin())
    for each in both:
        await each.start()
    settings.TRITON_URLS = [each.address for each in both]
    yield both
    await gateway.close()
    for each in both:
        await each.stop()


@pytest.fixture
def server(servers: tuple[Standin, Standin], settings: Settings) -> Standin:
    """The only one that there is."""
    settings.TRITON_URLS = [servers[0].address]
    return servers[0]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  (the database has no event for us to wait on)
            await asyncio.sleep(0.01)


async def statuses() -> dict[str, str]:
    return {row.name: row.status async for row in Deployment.objects.all()}


async def is_live(version: ModelVersion) -> bool:
    return await ModelVersion.objects.filter(pk=version.pk, status="LIVE").aexists()


async def hints_pass() -> None:
    """As if it were a while later: whoever remembers where a version was loaded has asked again."""
    await Deployment.objects.aupdate(changed_at=timezone.now() - desired.HINTS_LAST)


class TestRounds:
    async def test_a_slow_load_holds_up_no_other_versions_release(self, lab: Lab, server: Standin) -> None:
        slow, small = await lab.version("slow"), await lab.version("small")
        gate = server.load_gates[slow.triton_name] = Gate()
        rounds = asyncio.create_task(reconciler.reconcile())
        await gate.reached.wait()

        await lab.release(small)
        await until(lambda: is_live(small))

        assert not rounds.done()
        gate.opened.set()
        await rounds
        assert await statuses() == {slow.triton_name: "READY", small.triton_name: "READY"}

    async def test_a_slow_server_holds_up_no_other(self, lab: Lab, servers: tuple[Standin, Standin]) -> None:
        version = await lab.version("add")
        gate = servers[0].load_gates[version.triton_name] = Gate()
        rounds = asyncio.create_task(reconciler.reconcile())
        await gate.reached.wait()

        await until(Deployment.objects.filter(endpoint=servers[1].address, status="READY").aexists)

        gate.opened.set()
        await rounds

    async def test_a_version_goes_live_once_every_server_that_answers_has_it(
        self, lab: Lab, servers: tuple[Standin, Standin]
    ) -> None:
        version = await lab.version("add")
        await lab.release(version)
        servers[1].refuses[version.triton_name] = "there is no room"
        await reconciler.reconcile()
        assert not await is_live(version)

        await servers[1].stop()
        await reconciler.reconcile()

        assert await is_live(version)

    async def test_nothing_goes_live_while_no_server_answers(self, lab: Lab, servers: tuple[Standin, Standin]) -> None:
        version = await lab.version("add")
        await reconciler.reconcile()
        await lab.release(version)
        for server in servers:
            await server.stop()

        await reconciler.reconcile()

        assert not await is_live(version)

    async def test_what_a_worker_loaded_before_it_died_goes_live_in_the_next_ones_first_round(
        self, lab: Lab, server: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = await lab.version("add")
        await lab.release(version)
        with monkeypatch.context() as dying:
            dying.setattr(releases, "promote_ready", lambda _versions: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await reconciler.reconcile()
        assert await statuses() == {version.triton_name: "READY"}

        await reconciler.reconcile()

        assert await is_live(version)
        assert server.loads == [version.triton_name]

    async def test_a_canary_whose_server_is_killed_while_it_loads_begins_once_it_is_loaded(
        self, lab: Lab, server: Standin
    ) -> None:
        live = await lab.version("add", "LIVE")
        await MLModel.objects.aupdate(live_version=live)
        version = await lab.version("add")
        await sync_to_async(releases.set_canary)(lab.owner, model_ref="openlab/add", version_id=version.pk, percent=50)
        gate = server.load_gates[version.triton_name] = Gate()
        rounds = asyncio.create_task(reconciler.reconcile())
        await gate.reached.wait()
        await server.stop()
        await rounds
        del server.load_gates[version.triton_name]
        await server.start()
        await until(lambda: gateway.is_server_live(server.address))
        await Deployment.objects.aupdate(changed_at=timezone.now() - timedelta(minutes=1))

        await reconciler.reconcile()

        model = await MLModel.objects.aget()
        assert (model.live_version_id, model.canary_version_id) == (live.pk, version.pk)
        assert set(server.models) == {live.triton_name, version.triton_name}

    async def test_a_failed_load_says_why_and_is_tried_again_more_and_more_rarely(
        self, lab: Lab, server: Standin
    ) -> None:
        version = await lab.version("add")
        server.refuses[version.triton_name] = "it has a hole"
        await reconciler.reconcile()
        await reconciler.reconcile()
        row = await Deployment.objects.aget()
        assert (row.status, row.failures, len(server.loads)) == ("FAILED", 1, 1)
        assert "it has a hole" in row.error

        await Deployment.objects.aupdate(changed_at=timezone.now() - timedelta(seconds=2))
        await reconciler.reconcile()
        await Deployment.objects.aupdate(changed_at=timezone.now() - timedelta(seconds=2))
        await reconciler.reconcile()

        assert len(server.loads) == 2

    async def test_an_artefact_that_is_missing_is_told_without_our_folders(
        self, lab: Lab, server: Standin, tmp_path: Path
    ) -> None:
        await lab.version("add", sha256="ab" * 32)

        await reconciler.reconcile()

        row = await Deployment.objects.aget()
        assert row.status == "FAILED"
        assert "No such file" in row.error
        assert str(tmp_path) not in row.error

    async def test_what_a_server_forgot_is_loaded_again(self, lab: Lab, server: Standin) -> None:
        versions = {(await lab.version(name)).triton_name for name in ("one", "two", "three")}
        await reconciler.reconcile()
        await server.stop()
        await reconciler.reconcile()
        await server.start()
        await until(lambda: gateway.is_server_live(server.address))

        await reconciler.reconcile()

        assert set(server.models) == versions

    async def test_a_round_in_which_nothing_has_changed_asks_as_little_of_many_versions_as_of_one(
        self, lab: Lab, server: Standin
    ) -> None:
        async def asked() -> tuple[int, dict[str, int]]:
            server.asked.clear()
            queries = await sync_to_async(lambda: CaptureQueriesContext(connection).__enter__())()
            await reconciler.reconcile()

            def counted() -> int:
                queries.__exit__(None, None, None)
                return len(queries)

            return await sync_to_async(counted)(), dict(server.asked)

        await lab.version("one")
        await reconciler.reconcile()
        of_one = await asked()
        for number in range(20):
            await lab.version(f"more-{number}")
        await reconciler.reconcile()

        assert await asked() == of_one
        assert 0 < of_one[0] < 5
        assert of_one[1] == {"ServerLive": 1, "ModelStatistics": 1}


class TestOrphans:
    async def test_what_we_loaded_and_nobody_knows_of_is_unloaded(self, lab: Lab, server: Standin) -> None:
        await lab.version("add")
        await reconciler.reconcile()
        await MLModel.objects.all().adelete()

        await reconciler.reconcile()

        assert not server.models

    async def test_what_somebody_else_loaded_stays(self, lab: Lab, server: Standin) -> None:
        version = await lab.version("add")
        await reconciler.reconcile()
        (model,) = server.models.values()
        model.config["parameters"]["marketplace"]["string_value"] = "another one"
        await ModelVersion.objects.filter(pk=version.pk).adelete()

        await reconciler.reconcile()

        assert list(server.models) == [version.triton_name]

    async def test_a_trial_that_nobody_finished_is_unloaded_after_a_while(self, lab: Lab, server: Standin) -> None:
        now = int(timezone.now().timestamp() * 1000)
        parameters = {"marketplace": {"string_value": await sync_to_async(desired.owner)()}}
        server.models["trial-old"] = Loaded({"parameters": parameters}, now - 3_600_000)
        server.models["trial-new"] = Loaded({"parameters": parameters}, now)

        await reconciler.reconcile()

        assert list(server.models) == ["trial-new"]


class TestSettings:
    async def test_calls_go_on_where_they_are_until_the_new_settings_are_loaded(
        self, lab: Lab, server: Standin
    ) -> None:
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        new = await lab.configure(version, instance_count=2)
        gate = server.load_gates[new] = Gate()
        rounds = asyncio.create_task(reconciler.reconcile())
        await gate.reached.wait()

        await lab.call("add")

        assert server.models[version.triton_name].calls == 1
        gate.opened.set()
        await rounds
        await lab.call("add")
        assert server.models[new].calls == 1
        assert server.models[new].config["instance_group"][0]["count"] == 2

    async def test_the_old_ones_stay_for_a_call_that_is_under_way(self, lab: Lab, server: Standin) -> None:
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        gate = server.call_gates[version.triton_name] = Gate()
        call = asyncio.create_task(lab.call("add"))
        await gate.reached.wait()
        new = await lab.configure(version, instance_count=2)
        await reconciler.reconcile()
        await hints_pass()

        await reconciler.reconcile()

        assert await statuses() == {version.triton_name: "DRAINING", new: "READY"}
        assert set(server.models) == {version.triton_name, new}
        gate.opened.set()
        await call
        await reconciler.reconcile()
        assert set(server.models) == {new}
        assert await statuses() == {new: "READY"}

    async def test_the_old_ones_stay_while_somebody_may_remember_them(self, lab: Lab, server: Standin) -> None:
        """A web process asks once a second where a version is loaded."""
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        key = await sync_to_async(factories.api_key_row)(lab.tenant)
        remembering = replace(lab.owner, api_key_id=key.pk, role=TenantRole(key.role))
        assert await endpoints_of(version.pk) == [(server.address, version.triton_name)]
        new = await lab.configure(version, instance_count=2)
        await reconciler.reconcile()

        await reconciler.reconcile()

        assert (await invoke(remembering, ref="openlab/add", inputs=INPUTS, hinted=True)).outputs
        assert server.models[version.triton_name].calls == 1
        assert await statuses() == {version.triton_name: "DRAINING", new: "READY"}

    async def test_a_call_that_comes_too_late_for_the_old_ones_finds_the_new(
        self, lab: Lab, server: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It looked up where the version is, and then waited for longer than anybody expects."""
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        gate = server.call_gates[version.triton_name] = Gate()
        call = asyncio.create_task(lab.call("add"))
        await gate.reached.wait()
        await Hold.objects.aupdate(created_at=timezone.now() + timedelta(hours=1))
        new = await lab.configure(version, instance_count=2)
        await reconciler.reconcile()
        await hints_pass()
        await reconciler.reconcile()
        assert set(server.models) == {new}

        gate.opened.set()

        assert (await call).outputs
        assert await statuses() == {new: "READY"}

    async def test_settings_that_cannot_be_loaded_leave_the_old_ones_in_service(
        self, lab: Lab, server: Standin
    ) -> None:
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        new = await lab.configure(version, instance_count=2)
        server.refuses[new] = "there is no room"

        await reconciler.reconcile()

        await lab.call("add")
        assert await statuses() == {version.triton_name: "READY", new: "FAILED"}

    async def test_taking_settings_back_loads_nothing(self, lab: Lab, server: Standin) -> None:
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        new = await lab.configure(version, instance_count=2)
        await reconciler.reconcile()

        await lab.configure(version, instance_count=1)
        await reconciler.reconcile()

        assert server.loads == [version.triton_name, new]
        assert await statuses() == {version.triton_name: "READY", new: "DRAINING"}

    async def test_a_retired_version_stays_for_the_call_that_is_under_way(self, lab: Lab, server: Standin) -> None:
        version = await lab.version("add")
        await reconciler.reconcile()
        gate = server.call_gates[version.triton_name] = Gate()
        call = asyncio.create_task(lab.call("add", version=1))
        await gate.reached.wait()
        await sync_to_async(retire)(lab.owner, version_id=version.pk)

        await reconciler.reconcile()

        assert list(server.models) == [version.triton_name]
        gate.opened.set()
        await call
        await reconciler.reconcile()
        assert not server.models
        assert not await statuses()


class TestCallsMeanwhile:
    async def test_one_that_looks_just_before_a_version_is_loaded_finds_it(
        self, lab: Lab, server: Standin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        await Deployment.objects.aupdate(status="PENDING")

        async def looked_just_before(_version: UUID) -> list[Place]:
            await Deployment.objects.aupdate(status="READY")
            return []

        monkeypatch.setattr(dispatch, "endpoints_of", looked_just_before)

        await lab.call("add")

        assert server.models[version.triton_name].calls == 1

    async def test_one_waits_for_a_server_that_can_load_it_while_another_that_had_it_is_away(
        self, lab: Lab, servers: tuple[Standin, Standin]
    ) -> None:
        there, away = servers
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        await away.stop()
        there.models.clear()
        await Deployment.objects.filter(endpoint=there.address).aupdate(status="COLD")

        call = asyncio.create_task(lab.call("add"))
        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)
        await reconciler.reconcile()

        assert (await call).outputs
        assert there.models[version.triton_name].calls == 1

    async def test_one_that_is_told_late_of_a_dead_model_leaves_what_was_loaded_since(
        self, lab: Lab, server: Standin
    ) -> None:
        """A server is killed under two callers. The first is told, and the model is loaded before the second is."""
        version = await lab.version("add", "LIVE")
        await reconciler.reconcile()
        asked_at = timezone.now()
        for _ in range(2):
            await demand.mark_broken(server.address, version.triton_name, "it has stopped", asked_at=asked_at)
            await reconciler.reconcile()

        assert len(server.loads) == 2
        assert await statuses() == {version.triton_name: "READY"}


class TestMemory:
    """Each version takes 100 MB; there is room for two."""

    @pytest_asyncio.fixture
    async def versions(self, lab: Lab, server: Standin, settings: Settings) -> list[ModelVersion]:
        settings.TRITON_MEMORY_BYTES = 250 * MB
        now = timezone.now()
        versions = []
        for age, name in enumerate(("newest", "middle", "oldest")):
            version = await lab.version(name, "LIVE", report={"facts": {"peak_bytes": 100 * MB}})
            await ModelVersion.objects.filter(pk=version.pk).aupdate(created_at=now - timedelta(hours=1 + age))
            versions.append(version)
        await reconciler.reconcile()
        return versions

    async def test_what_was_used_last_is_loaded(self, server: Standin, versions: list[ModelVersion]) -> None:
        newest, middle, oldest = (version.triton_name for version in versions)

        assert await statuses() == {newest: "READY", middle: "READY", oldest: "COLD"}
        assert set(server.models) == {newest, middle}

    async def test_a_call_has_a_cold_version_loaded_in_place_of_what_was_used_longest_ago(
        self, lab: Lab, server: Standin, versions: list[ModelVersion]
    ) -> None:
        newest, middle, oldest = (version.triton_name for version in versions)
        server.models[middle].last_call = int(timezone.now().timestamp() * 1000)
        call = asyncio.create_task(lab.call("oldest"))
        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)

        await reconciler.reconcile()
        assert await statuses() == {newest: "DRAINING", middle: "READY", oldest: "COLD"}
        await Deployment.objects.filter(name=newest).aupdate(changed_at=timezone.now() - desired.HINTS_LAST)
        await reconciler.reconcile()

        assert (await call).outputs
        assert await statuses() == {newest: "COLD", middle: "READY", oldest: "READY"}
        assert set(server.models) == {middle, oldest}

    async def test_all_who_call_meanwhile_wait_for_one_load(
        self, lab: Lab, server: Standin, versions: list[ModelVersion], settings: Settings
    ) -> None:
        oldest = versions[2].triton_name
        calls = [asyncio.create_task(lab.call("oldest")) for _ in range(20)]
        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)
        settings.TRITON_MEMORY_BYTES = 350 * MB

        await reconciler.reconcile()

        assert all(answer.outputs for answer in await asyncio.gather(*calls))
        assert server.loads.count(oldest) == 1

    async def test_who_sees_it_given_up_again_asks_again(
        self, lab: Lab, server: Standin, versions: list[ModelVersion], settings: Settings
    ) -> None:
        call = asyncio.create_task(lab.call("oldest"))
        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)
        await Deployment.objects.aupdate(wanted_at=None)

        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)
        settings.TRITON_MEMORY_BYTES = 350 * MB
        await reconciler.reconcile()

        assert (await call).outputs

    async def test_who_cannot_wait_so_long_hears_that_it_is_being_loaded(
        self, lab: Lab, versions: list[ModelVersion]
    ) -> None:
        await Deployment.objects.filter(status="COLD").aupdate(load_seconds=7.5)

        with pytest.raises(ModelUnavailable, match="being loaded") as told:
            await lab.call("oldest", timeout=0.3)

        assert told.value.retry_after_ms == 7500
        assert (await Hold.objects.aget()).state == "released"

    async def test_the_time_that_loading_takes_is_not_charged(
        self, lab: Lab, versions: list[ModelVersion], settings: Settings
    ) -> None:
        def subscribed() -> Principal:
            acme = factories.tenant("acme")
            factories.subscription(acme, factories.plan(versions[2].model, unit="SECOND", included_units=100))
            return factories.principal(acme)

        caller = await sync_to_async(subscribed)()
        started = perf_counter()
        call = asyncio.create_task(invoke(caller, ref="openlab/oldest", inputs=INPUTS))
        await until(Deployment.objects.filter(wanted_at__isnull=False).aexists)
        settings.TRITON_MEMORY_BYTES = 350 * MB
        waiting = perf_counter()
        await reconciler.reconcile()
        waited = perf_counter() - waiting

        answer = await call

        assert answer.latency_ms
        assert answer.latency_ms / 1000 <= perf_counter() - started - waited
        assert float(answer.units) <= answer.latency_ms / 1000 + 0.001

    async def test_what_is_being_released_stays(self, lab: Lab, server: Standin, versions: list[ModelVersion]) -> None:
        second = await lab.version("oldest", report={"facts": {"peak_bytes": 100 * MB}})
        await ModelVersion.objects.filter(pk=second.pk).aupdate(created_at=timezone.now() - timedelta(days=9))
        await lab.release(second)

        await reconciler.reconcile()
        await hints_pass()
        await reconciler.reconcile()

        assert await is_live(second)

    async def test_one_that_is_larger_than_the_server_is_refused_with_the_reason(
        self, lab: Lab, server: Standin, versions: list[ModelVersion]
    ) -> None:
        giant = await lab.version("giant", report={"facts": {"peak_bytes": 300 * MB}})

        await reconciler.reconcile()

        row = await Deployment.objects.aget(version=giant)
        assert (row.status, row.error) == (
            "FAILED",
            "It needs about 300 MB of memory, and the server has 250 MB for all models.",
        )

    async def test_when_they_were_last_used_outlives_the_server(
        self, server: Standin, versions: list[ModelVersion]
    ) -> None:
        used = timezone.now().replace(microsecond=0)
        server.models[versions[0].triton_name].last_call = int(used.timestamp() * 1000)

        await reconciler.reconcile()

        assert (await Deployment.objects.aget(version=versions[0])).used_at == used
