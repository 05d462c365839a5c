"""ModelVersion.deployments and configureModelVersion; its trial has its test where there is a Triton to try it on."""

from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from graphql_api.nodes import global_id
from inference.models import Deployment
from marketplace.catalog.models import ModelVersion
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

DEPLOYMENTS = """
query ($id: ID!) {
  node(id: $id) { ... on ModelVersion { deployments { endpoint status error failures loadedAt memoryBytes } } }
}"""

VERSIONS = '{ model(ref: "openlab/digits") { versions { edges { node { deployments { status } } } } } }'

CONFIGURE = """
mutation ($input: ConfigureModelVersionInput!) {
  configureModelVersion(input: $input) {
    modelVersion { instanceCount maxBatchSize responseCache }
    errors { __typename path }
  }
}"""


def deployments(marketplace: Marketplace, version: ModelVersion) -> list[dict[str, Any]]:
    data = marketplace.publisher.data(DEPLOYMENTS, id=global_id("ModelVersion", version.pk))
    return list(data["node"]["deployments"])


def configured(marketplace: Marketplace, version: ModelVersion, **change: Any) -> dict[str, Any]:
    asked = {"modelVersion": global_id("ModelVersion", version.pk), **change}
    return dict(marketplace.publisher.data(CONFIGURE, input=asked)["configureModelVersion"])


class TestDeployments:
    def test_they_say_where_it_runs_and_what_went_wrong(self, marketplace: Marketplace) -> None:
        now = timezone.now()
        Deployment.objects.create(
            version=marketplace.ready,
            endpoint=settings.TRITON_URLS[0],
            status="READY",
            loaded_at=now,
            memory_bytes=5 * 10**9,
        )
        Deployment.objects.create(
            version=marketplace.ready, endpoint="192.0.2.1:8001", status="FAILED", error="no room", failures=2
        )

        ready, failed = sorted(deployments(marketplace, marketplace.ready), key=lambda each: each["endpoint"])

        assert ready == {
            "endpoint": "triton-1",
            "status": "READY",
            "error": "",
            "failures": 0,
            "loadedAt": now.isoformat().replace("+00:00", "Z"),
            "memoryBytes": 5_000_000_000,
        }
        assert (failed["status"], failed["error"], failed["failures"]) == ("FAILED", "no room", 2)

    def test_they_do_not_say_where_the_operators_servers_are(self, marketplace: Marketplace) -> None:
        [gone] = deployments(marketplace, marketplace.version)

        assert gone["endpoint"] == "triton-gone"

    def test_the_operator_sees_them_too(self, marketplace: Marketplace) -> None:
        operator = Caller(user=factories.user(is_staff=True))

        data = operator.data(DEPLOYMENTS, id=global_id("ModelVersion", marketplace.version.pk))

        assert [each["status"] for each in data["node"]["deployments"]] == ["FAILED"]

    def test_those_of_many_versions_take_one_query(
        self, marketplace: Marketplace, django_assert_max_num_queries: Any
    ) -> None:
        def ask() -> None:
            marketplace.publisher.data(VERSIONS)

        with django_assert_max_num_queries(100) as few:
            ask()
        for number in range(5):
            version = factories.version(marketplace.model, status="READY")
            Deployment.objects.create(version=version, endpoint=f"192.0.2.{number}:8001", status="READY")
        with django_assert_max_num_queries(len(few)):
            ask()


class TestConfigure:
    def test_what_is_asked_for_and_nothing_else_changes(self, marketplace: Marketplace) -> None:
        answer = configured(marketplace, marketplace.version, instanceCount=3, responseCache=True)

        assert answer == {
            "modelVersion": {"instanceCount": 3, "maxBatchSize": 0, "responseCache": True},
            "errors": [],
        }

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"instanceCount": 99}, "input.instanceCount"),
            ({"maxBatchSize": 8}, "input.maxBatchSize"),
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused_by_name(
        self, marketplace: Marketplace, change: dict[str, Any], path: str
    ) -> None:
        answer = configured(marketplace, marketplace.version, **change)

        assert answer == {"modelVersion": None, "errors": [{"__typename": "ValidationProblem", "path": path}]}
