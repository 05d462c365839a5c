"""What Triton says that it delivered is what we settled; what explains a difference is shown, and the rest is drift."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uuid_utils.compat as uuid
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from inference import gateway, reconciliation, tasks
from inference.deployment import demand, reconciler
from inference.formats import read_signature
from inference.invocation import invoke
from inference.models import Deployment, TritonCounter, UsageReconciliation, Watermark
from inference.repository import triton_models
from inference.tensors import RawTensor
from marketplace.catalog.models import ModelVersion
from marketplace.config import celery
from marketplace.errors import InferenceFailed
from marketplace.metering import connections
from marketplace.metering.admission import release
from marketplace.metering.models import Hold, LedgerEntry
from marketplace.objects.folder import Folder
from tests import factories
from tests.inference import ensembles, graphs
from tests.inference.test_gateway import PATIENCE, SUM, Server, until, until_it_runs

pytestmark = pytest.mark.django_db(transaction=True)

INPUTS = [RawTensor(name=name, datatype="FP32", shape=[1], data=[1.5]) for name in "AB"]


class Shop:
    """A publisher who calls its own model, `openlab/<name>`."""

    def __init__(self, objects: Path) -> None:
        self.objects = objects
        self.publisher = factories.tenant("openlab", is_publisher=True)
        self.owner = factories.principal(self.publisher)

    def version_of(self, artifact: bytes, *, name: str = "add", **fields: Any) -> ModelVersion:
        file = self.objects / "upload"
        file.write_bytes(artifact)
        sha256, size = Folder(self.objects).put(file)
        return factories.version(factories.model(self.publisher, name), sha256=sha256, size_bytes=size, **fields)

    async def call(self, times: int = 1, *, name: str = "add", inputs: list[RawTensor] = INPUTS) -> None:
        await asyncio.gather(*(invoke(self.owner, ref=f"openlab/{name}", inputs=inputs) for _ in range(times)))


@pytest_asyncio.fixture
async def shop(settings: Settings, tmp_path: Path, transactional_db: None) -> AsyncIterator[Shop]:
    settings.OBJECTS_DIR = tmp_path
    yield await sync_to_async(Shop)(tmp_path)
    await ModelVersion.objects.aupdate(status="RETIRED")
    await reconciler.reconcile()


@pytest_asyncio.fixture
async def add(shop: Shop) -> ModelVersion:
    """openlab/add, deployed and compared once: from then on its calls count."""
    version = await sync_to_async(shop.version_of)(graphs.add())
    await reconciler.reconcile()
    await compared()
    return version


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A Triton of the test's own."""
    server = Server(tmp_path / "triton")
    await server.start()
    yield server
    await gateway.close()
    server.process.kill()
    await server.process.wait()


@contextmanager
def another_session() -> Iterator[BaseDatabaseWrapper]:
    session = connection.copy()
    try:
        yield session
    finally:
        session.close()


async def compared() -> None:
    # Triton counts a call shortly after it has answered it, and nothing tells when it has.
    await asyncio.sleep(0.2)
    assert await sync_to_async(reconciliation.reconcile)()


async def usage() -> UsageReconciliation:
    await compared()
    return await UsageReconciliation.objects.aget()


def counts(row: UsageReconciliation) -> dict[str, Any]:
    """What is not zero."""
    names = ("delivered", "cached", "settled", "released", "in_flight", "uncounted", "drift")
    return {name: value for name in names if (value := getattr(row, name))}


async def behind_our_back(version: ModelVersion, address: str, times: int = 1) -> None:
    for _ in range(times):
        await gateway.infer(address, version.triton_name, SUM, timeout=PATIENCE)


async def test_calls_that_are_delivered_and_settled_leave_no_drift(shop: Shop, add: ModelVersion) -> None:
    await shop.call(3)

    row = await usage()

    assert counts(row) == {"delivered": 3, "settled": 3}
    assert row.drift_since is None


async def test_what_was_called_before_the_first_comparison_counts_on_neither_side(shop: Shop) -> None:
    await sync_to_async(shop.version_of)(graphs.add())
    await reconciler.reconcile()
    await shop.call(2)
    await compared()

    await shop.call()

    assert counts(await usage()) == {"delivered": 1, "settled": 1}


async def test_a_version_that_is_loaded_later_counts_from_its_first_call(shop: Shop) -> None:
    await compared()
    await sync_to_async(shop.version_of)(graphs.add())
    await reconciler.reconcile()
    await shop.call(2)

    assert counts(await usage()) == {"delivered": 2, "settled": 2}


async def test_calls_made_at_triton_behind_our_back_are_drift(shop: Shop, add: ModelVersion, triton: str) -> None:
    await shop.call(3)
    await behind_our_back(add, triton, 2)

    row = await usage()

    assert counts(row) == {"delivered": 5, "settled": 3, "drift": 2}
    assert row.drift_since is not None


async def test_calls_settled_that_triton_never_delivered_are_drift(shop: Shop, add: ModelVersion) -> None:
    await sync_to_async(factories.hold)(shop.publisher, add)
    await sync_to_async(factories.hold)(shop.publisher, add)

    assert counts(await usage()) == {"settled": 2, "drift": -2}


async def test_a_drift_that_lasts_is_logged_once_per_change(
    shop: Shop, add: ModelVersion, triton: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inference.reconciliation")

    async def said() -> list[tuple[str, str]]:
        caplog.clear()
        await compared()
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    await behind_our_back(add, triton)
    assert await said() == []
    assert await said() == [("ERROR", "openlab/add v1: Triton delivered calls that are none of ours: 1")]
    assert await said() == []

    await behind_our_back(add, triton, 2)
    assert await said() == []
    assert await said() == [("ERROR", "openlab/add v1: Triton delivered calls that are none of ours: 3")]

    for _ in range(3):
        await sync_to_async(factories.hold)(shop.publisher, add)
    assert await said() == [("INFO", "openlab/add v1: what Triton delivered and what we settled agree again")]
    assert await said() == []


async def test_a_client_who_cancels_is_explained_though_triton_counts_the_call(shop: Shop, triton: str) -> None:
    slow = await sync_to_async(shop.version_of)(graphs.countdown(), name="slow")
    await sync_to_async(slow.tensors.all().delete)()
    await sync_to_async(factories.tensor)(slow, "INPUT", "turns", datatype="INT64", shape=[1])
    await sync_to_async(factories.tensor)(slow, "OUTPUT", "result", shape=[1])
    await reconciler.reconcile()
    await compared()

    def turns(number: int) -> list[RawTensor]:
        return [RawTensor(name="turns", datatype="INT64", shape=[1], data=[number])]

    leaving = asyncio.create_task(shop.call(name="slow", inputs=turns(10**9)))
    await until_it_runs(slow.triton_name)
    assert counts(await usage()) == {"in_flight": 1}

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await shop.call(name="slow", inputs=turns(1))  # runs once the first has been ended

    assert counts(await usage()) == {"delivered": 2, "settled": 1, "released": {"CANCELLED": 1}}


async def test_a_call_whose_process_died_before_its_settle_is_explained_first_as_open_then_as_expired(
    shop: Shop, add: ModelVersion, triton: str
) -> None:
    hold = await sync_to_async(factories.hold)(shop.publisher, add, state="held", finished_at=None)
    await behind_our_back(add, triton)
    assert counts(await usage()) == {"delivered": 1, "in_flight": 1}

    await release(hold.pk, because="EXPIRED")

    assert counts(await usage()) == {"delivered": 1, "released": {"EXPIRED": 1}}


@pytest.mark.parametrize("counted_before", [True, False])
async def test_a_charge_that_is_refunded_is_released_and_no_longer_settled(
    shop: Shop, add: ModelVersion, counted_before: bool
) -> None:
    await shop.call(2)
    if counted_before:
        assert counts(await usage()) == {"delivered": 2, "settled": 2}
    hold = await Hold.objects.afirst()
    assert hold is not None

    async with connections.connection() as db:
        await db.execute("SELECT metering_refund(%s::uuid[], 'UNDELIVERED')", [[hold.pk]])

    assert counts(await usage()) == {"delivered": 2, "settled": 1, "released": {"UNDELIVERED": 1}}


async def test_calls_that_the_model_fails_are_released_and_explained(shop: Shop) -> None:
    add = await sync_to_async(shop.version_of)(graphs.add())
    await add.tensors.filter(name="B").aupdate(shape=[3])
    await reconciler.reconcile()
    await compared()
    uneven = [RawTensor(name=name, datatype="FP32", shape=[n], data=[1] * n) for name, n in (("A", 2), ("B", 3))]

    with pytest.raises(InferenceFailed):
        await shop.call(inputs=uneven)

    # Triton's Python backend counts a model's error among the successes; other backends do not.
    assert counts(await usage()) == {"delivered": 1, "released": {"INFERENCE_FAILED": 1}}


async def test_an_ensemble_counts_once_however_many_steps_it_has(shop: Shop) -> None:
    signature = read_signature(graphs.add())
    pipeline = ensembles.archive(
        signature,
        ensembles.step("first", "onnxruntime", signature, {"A": "A", "B": "B"}, {"SUM": "half"}),
        ensembles.step("second", "onnxruntime", signature, {"A": "half", "B": "B"}, {"SUM": "SUM"}),
        files={"first/model.onnx": graphs.add(), "second/model.onnx": graphs.add()},
    )
    await sync_to_async(shop.version_of)(pipeline, format="ensemble")
    await reconciler.reconcile()
    await compared()

    await shop.call(2)

    assert counts(await usage()) == {"delivered": 2, "settled": 2}


class TestCountersThatEnd:
    async def test_a_reload_is_noticed_though_its_counter_is_the_larger_one(
        self, shop: Shop, add: ModelVersion, triton: str
    ) -> None:
        await shop.call()
        await compared()
        await demand.mark_broken(triton, add.triton_name, "it has stopped", asked_at=timezone.now())
        await reconciler.reconcile()

        await shop.call(2)

        assert counts(await usage()) == {"delivered": 3, "settled": 3}

    async def test_a_counter_that_went_back_began_anew_whoever_loaded_the_version(
        self, shop: Shop, triton: str
    ) -> None:
        add = await sync_to_async(shop.version_of)(graphs.add())
        await Deployment.objects.acreate(version=add, endpoint=triton, status="READY")
        [model] = triton_models(add.triton_name, "onnx", graphs.add(), read_signature(graphs.add()))
        for calls in (0, 3, 1):
            await gateway.unload(triton, model.name)
            await gateway.load(triton, model.name, model.config, model.files)
            if calls:
                await shop.call(calls)
            row = await usage()

        assert counts(row) == {"delivered": 4, "settled": 4}

    async def test_what_a_killed_triton_had_counted_unread_is_told_apart_from_drift(
        self, shop: Shop, server: Server, settings: Settings
    ) -> None:
        settings.TRITON_URLS = [server.address]
        add = await sync_to_async(shop.version_of)(graphs.add())
        await reconciler.reconcile()
        await compared()
        await shop.call(3)
        await behind_our_back(add, server.address)
        assert counts(await usage()) == {"delivered": 4, "settled": 3, "drift": 1}

        await shop.call(2)
        server.process.kill()
        await server.process.wait()
        await server.start()
        await until(lambda: gateway.is_server_live(server.address))
        await reconciler.reconcile()
        await shop.call(4)

        assert counts(await usage()) == {"delivered": 8, "settled": 9, "uncounted": 2, "drift": 1}

    async def test_the_last_calls_of_a_version_that_is_unloaded_are_not_drift(
        self, shop: Shop, add: ModelVersion
    ) -> None:
        await shop.call()
        await compared()
        await shop.call(2)
        await ModelVersion.objects.aupdate(status="RETIRED")
        await reconciler.reconcile()

        assert counts(await usage()) == {"delivered": 1, "settled": 3, "uncounted": 2}

        await sync_to_async(factories.hold)(shop.publisher, add)
        assert counts(await usage()) == {"delivered": 1, "settled": 4, "uncounted": 2, "drift": -1}

    async def test_while_an_endpoint_is_away_its_versions_are_counted_and_not_judged(
        self, shop: Shop, add: ModelVersion, settings: Settings, unused_tcp_port: int
    ) -> None:
        away = f"127.0.0.1:{unused_tcp_port}"
        here = settings.TRITON_URLS[0]
        checked_at = (await usage()).checked_at
        settings.TRITON_URLS = [here, away]
        await Deployment.objects.acreate(version=add, endpoint=away, status="READY")
        await sync_to_async(factories.hold)(shop.publisher, add)

        row = await usage()
        assert (row.checked_at, counts(row)) == (checked_at, {"settled": 1})

        settings.TRITON_URLS = [here]
        await Deployment.objects.filter(endpoint=away).adelete()
        row = await usage()
        assert row.checked_at != checked_at
        assert counts(row) == {"settled": 1, "drift": -1}


async def test_endpoints_count_together_and_are_shown_apart(
    shop: Shop, server: Server, triton: str, settings: Settings
) -> None:
    settings.TRITON_URLS = [triton, server.address]
    await sync_to_async(shop.version_of)(graphs.add())
    await reconciler.reconcile()
    await compared()
    for endpoint, times in ((triton, 2), (server.address, 3)):
        settings.TRITON_URLS = [endpoint]
        await shop.call(times)
    settings.TRITON_URLS = [triton, server.address]

    assert counts(await usage()) == {"delivered": 5, "settled": 5}
    assert {row.endpoint: row.succeeded async for row in TritonCounter.objects.all()} == {triton: 2, server.address: 3}
    settings.TRITON_URLS = [triton]


async def test_answers_from_tritons_cache_are_delivered_and_charged_like_others(shop: Shop) -> None:
    await sync_to_async(shop.version_of)(graphs.add(), response_cache=True)
    await reconciler.reconcile()
    await compared()

    for _ in range(3):
        await shop.call()

    assert counts(await usage()) == {"delivered": 3, "cached": 2, "settled": 3}


class TestCounting:
    """Of holds, from where the last comparison stopped."""

    @pytest.fixture
    def version(self, settings: Settings) -> ModelVersion:
        settings.TRITON_URLS = []
        version = factories.version(factories.model(factories.tenant("openlab", is_publisher=True)))
        reconciliation.reconcile()
        return version

    def test_a_settle_that_commits_after_later_ones_were_counted_is_counted_all_the_same(
        self, version: ModelVersion
    ) -> None:
        slow = factories.hold(factories.tenant(), version, state="held", finished_at=None)
        finish = "UPDATE metering_hold SET state = 'settled', finished_at = clock_timestamp() WHERE id = %s"
        with another_session() as session, session.cursor() as cursor:
            session.set_autocommit(False)
            cursor.execute(finish, [slow.pk])
            factories.hold(factories.tenant(), version)
            reconciliation.reconcile()
            # The later one waits as well: no moment after the first one's is counted yet.
            assert counts(UsageReconciliation.objects.get()) == {"in_flight": 2}
            session.commit()
            session.set_autocommit(True)

        reconciliation.reconcile()
        assert counts(UsageReconciliation.objects.get()) == {"settled": 2, "drift": -2}

    def test_the_worker_compares_every_minute(self, version: ModelVersion) -> None:
        factories.hold(version.model.publisher, version)

        tasks.reconcile_usage()

        assert celery.EVERY_SECONDS[tasks.reconcile_usage.name] == 60
        assert UsageReconciliation.objects.get().settled == 1

    def test_one_comparison_at_a_time(self, version: ModelVersion) -> None:
        reached = Watermark.objects.get().reached
        with another_session() as session, session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [reconciliation.ADVISORY_LOCK])

            assert not reconciliation.reconcile()
            assert Watermark.objects.get().reached == reached

            cursor.execute("SELECT pg_advisory_unlock(%s)", [reconciliation.ADVISORY_LOCK])

        assert reconciliation.reconcile()

    def test_it_takes_as_many_queries_for_many_versions_as_for_one(self, version: ModelVersion) -> None:
        def queries() -> int:
            for each in ModelVersion.objects.all():
                factories.hold(each.model.publisher, each)
            with CaptureQueriesContext(connection) as captured:
                reconciliation.reconcile()
            return len(captured)

        queries()
        for_one = queries()
        for _ in range(12):
            factories.version(factories.model(version.model.publisher))
        queries()

        assert queries() == for_one
        assert UsageReconciliation.objects.count() == 13

    @pytest.mark.parametrize("analysed", [False, True])
    def test_it_never_reads_what_was_counted_before(self, version: ModelVersion, analysed: bool) -> None:
        old, seller = timezone.now() - timedelta(days=1), version.model.publisher
        template = factories.hold(seller, version, state="released", released_because="UNDELIVERED")
        holds = [copy(template) for _ in range(2000)]
        for hold in holds:
            hold.pk, hold.finished_at = uuid.uuid7(), old
        Hold.objects.bulk_create(holds)
        charge = {"kind": "charge", "account": "consumer", "units": -1, "amount": 0, "currency": "USD"}
        LedgerEntry.objects.bulk_create(
            LedgerEntry(hold=hold, tenant=seller, created_at=old, **charge) for hold in [template, *holds]
        )
        factories.hold(seller, version, state="held", finished_at=None)
        with connection.cursor() as cursor:
            # With a histogram from rows of an earlier test the planner would look at both ends of the index itself.
            cursor.execute("SELECT pg_clear_attribute_stats('public', 'metering_hold', 'finished_at', false)")
            if analysed:
                cursor.execute("ANALYZE metering_hold, metering_ledgerentry")
        before = rows_read()

        reconciliation.reconcile()

        # The one that finished, the one that is open, and what the first of them was once charged.
        assert rows_read() - before == {"metering_hold": 2, "metering_ledgerentry": 1}


def rows_read() -> Counter[str]:
    """By this session, since it last handed in its figures, which it does between transactions alone: what autovacuum
    reads beside it is not among them, what an earlier test read may be."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname LIKE 'metering%%'"
        )
        return Counter(dict(cursor.fetchall()))


class TestPage:
    PAGE = "/admin/inference/usagereconciliation/"

    @pytest.fixture(autouse=True)
    def _static_files_that_nobody_has_collected(self, settings: Settings) -> None:
        settings.STORAGES = settings.STORAGES | {
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
        }

    @pytest.fixture
    def operator(self) -> Client:
        client = Client()
        client.force_login(factories.user(is_staff=True, is_superuser=True))
        return client

    def test_the_largest_drift_comes_first_whichever_way_it_goes(self, operator: Client) -> None:
        publisher = factories.tenant("openlab", is_publisher=True)
        for drift in (0, 2, -5, 1):
            version = factories.version(factories.model(publisher))
            now = timezone.now()
            UsageReconciliation.objects.create(version=version, since=now, checked_at=now, drift=drift)

        page = operator.get(self.PAGE)

        assert [row.drift for row in page.context["cl"].result_list] == [-5, 2, 1, 0]

    def test_what_was_released_is_shown_by_its_reason(self, operator: Client) -> None:
        version = factories.version(factories.model(factories.tenant("openlab", is_publisher=True)))
        released = {"CANCELLED": 2, "EXPIRED": 1300}
        UsageReconciliation.objects.create(version=version, since=timezone.now(), released=released)

        assert "EXPIRED 1,300, CANCELLED 2" in operator.get(self.PAGE).content.decode()

    def test_before_the_first_comparison_it_says_so(self, operator: Client) -> None:
        assert "Nothing has been compared yet" in operator.get(self.PAGE).content.decode()
