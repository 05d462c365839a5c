"""What is said of servers and models, and to whom."""

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inference.dataplane import describe
from inference.models import Deployment, DeploymentStatus
from marketplace.access import ANONYMOUS
from marketplace.catalog.models import ModelVersion, Visibility
from marketplace.errors import NotFound, ValidationProblem
from marketplace.tenants.models import Tenant
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def openlab() -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def acme() -> Tenant:
    return factories.tenant("acme")


def index(of: Tenant, **asked: Any) -> list[str]:
    rows = async_to_sync(describe.index)(factories.principal(of), **asked)
    return [f"{row['name']}@{row['version']} {row['state']}" for row in rows]


def loaded(version: ModelVersion, endpoint: str | None = None) -> None:
    Deployment.objects.create(
        version=version, endpoint=endpoint or settings.TRITON_URLS[0], status=DeploymentStatus.READY
    )


class TestIndex:
    def test_it_holds_what_the_tenant_publishes_and_what_it_has_subscribed_to(
        self, openlab: Tenant, acme: Tenant
    ) -> None:
        mine, theirs = factories.model(acme, "mine"), factories.model(openlab, "theirs")
        factories.model(openlab, "public")
        for model in (mine, theirs):
            loaded(factories.version(model))
        factories.version(theirs, status="READY")
        factories.version(theirs, status="RETIRED")
        factories.subscription(acme, factories.plan(theirs))

        assert index(acme) == ["acme/mine@1 READY", "openlab/theirs@1 READY", "openlab/theirs@2 LOADING"]
        assert index(acme, ready=True) == ["acme/mine@1 READY", "openlab/theirs@1 READY"]

    def test_it_leaves_out_what_may_not_be_called(self, openlab: Tenant, acme: Tenant) -> None:
        left, granted, hidden = (factories.model(openlab, name) for name in ("left", "granted", "hidden"))
        factories.subscription(acme, factories.plan(left), status="CANCELLED")
        factories.grant(granted, acme)
        factories.subscription(acme, factories.plan(hidden))
        for model in (left, granted, hidden):
            factories.version(model)
        type(hidden).objects.filter(pk=hidden.pk).update(visibility=Visibility.PRIVATE)

        assert index(acme) == []

    def test_what_a_call_would_have_loaded_is_ready(self, openlab: Tenant) -> None:
        """A client that waits for it to be ready would never make that call."""
        version = factories.version(factories.model(openlab, "digits"))
        Deployment.objects.create(version=version, endpoint=settings.TRITON_URLS[0], status=DeploymentStatus.COLD)

        assert index(openlab) == ["openlab/digits@1 READY"]

    def test_what_only_a_server_of_old_had_is_not_ready(self, openlab: Tenant) -> None:
        loaded(factories.version(factories.model(openlab, "digits")), "192.0.2.1:8001")

        assert index(openlab) == ["openlab/digits@1 LOADING"]

    def test_nobody_is_told_of_nothing(self) -> None:
        assert async_to_sync(describe.index)(ANONYMOUS) == []

    def test_its_cost_does_not_grow_with_the_catalogue(self, openlab: Tenant, acme: Tenant) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                index(acme)
            return len(captured)

        first = factories.model(openlab)
        factories.version(first)
        factories.subscription(acme, factories.plan(first))
        before = queries()
        for _ in range(5):
            model = factories.model(openlab)
            factories.version(model)
            factories.subscription(acme, factories.plan(model))

        assert queries() == before == 1

    def test_it_is_bounded(self, openlab: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("c", "b", "a"):
            factories.version(factories.model(openlab, f"model-{name}"))
        monkeypatch.setattr(describe, "MOST_IN_INDEX", 2)

        assert index(openlab) == ["openlab/model-a@1 LOADING", "openlab/model-b@1 LOADING"]


class TestModel:
    def test_a_publisher_sees_versions_that_nobody_else_does(self, openlab: Tenant, acme: Tenant) -> None:
        model = factories.model(openlab, "digits")
        factories.version(model)
        factories.version(model, status="READY", released_at=None)

        def versions(of: Tenant) -> list[str]:
            told = async_to_sync(describe.metadata)(factories.principal(of), "openlab/digits")
            return list(told["versions"])

        assert versions(openlab) == ["1", "2"]
        assert versions(acme) == ["1"]
        with pytest.raises(NotFound):
            async_to_sync(describe.metadata)(factories.principal(acme), "openlab/digits", 2)

    @pytest.mark.parametrize("ref", ["openlab/none", "openlab", "", "openlab/di\0gits", "openlab/digits/1"])
    def test_any_other_name_is_that_of_none(self, openlab: Tenant, ref: str) -> None:
        factories.version(factories.model(openlab, "digits"))

        with pytest.raises(NotFound):
            async_to_sync(describe.metadata)(factories.principal(openlab), ref)
        with pytest.raises(ValidationProblem, match="is not available"):
            async_to_sync(describe.statistics)(factories.principal(openlab), ref)

    @pytest.mark.parametrize("number", [0, 2, 2**31, 10**18])
    def test_any_other_number_is_that_of_no_version(self, openlab: Tenant, number: int) -> None:
        factories.version(factories.model(openlab, "digits"))

        with pytest.raises(NotFound):
            async_to_sync(describe.metadata)(factories.principal(openlab), "openlab/digits", number)
        with pytest.raises(ValidationProblem, match="is not available"):
            async_to_sync(describe.statistics)(factories.principal(openlab), "openlab/digits", number)

    def test_a_model_without_a_live_version_is_none(self, openlab: Tenant) -> None:
        factories.version(factories.model(openlab, "digits"), status="READY")

        with pytest.raises(NotFound):
            async_to_sync(describe.config)(factories.principal(openlab), "openlab/digits")

    def test_the_configuration_says_whether_it_streams(self, openlab: Tenant) -> None:
        factories.version(factories.model(openlab, "story"), format="ensemble", decoupled=True)
        factories.version(factories.model(openlab, "steps"), format="ensemble")

        def told(ref: str) -> tuple[str, bool]:
            config = async_to_sync(describe.config)(factories.principal(openlab), ref)
            return config["platform"], config["model_transaction_policy"]["decoupled"]

        assert told("openlab/story") == ("", True)
        assert told("openlab/steps") == ("ensemble", False)


def test_counters_of_several_servers_are_added_up() -> None:
    def counters(calls: int, last: int) -> dict[str, Any]:
        return {
            "name": "x",
            "version": "7",
            "last_inference": last,
            "inference_count": calls,
            "inference_stats": {"success": {"count": calls, "ns": calls * 100}},
        }

    assert describe._added_up([counters(1, 50), counters(2, 40), counters(3, 0)]) == counters(6, 50)
