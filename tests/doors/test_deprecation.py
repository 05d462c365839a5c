"""Callers of a version that is to go are told so with each answer, and when: RFC 9745, RFC 8594."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from marketplace.catalog.models import ModelVersion
from marketplace.publishing import releases
from tests import factories
from tests.doors.grpc_v2.calls import bearer, question
from tests.doors.openai.requests import post
from tests.doors.rest_v2.messages import message, ours, tensor
from tests.doors.site import Site

OPERANDS = message([tensor("A", "FP32", [1], [1.5]), tensor("B", "FP32", [1], [2.25])])
SUNSET = datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)
TOLD = "Tue, 31 Dec 2999 23:59:59 GMT"


@pytest.fixture(scope="module")
def deprecated(site: Site) -> Iterator[dict[str, str]]:
    """When openlab/add and openlab/minilm were, with a date, and openlab/slow, without one."""

    def deprecate() -> dict[str, str]:
        openlab = factories.Tenant.objects.get(slug="openlab")
        told = {}
        for name, sunset in (("add", SUNSET), ("minilm", SUNSET), ("slow", None)):
            version = ModelVersion.objects.get(model__name=name, model__publisher=openlab, status="LIVE")
            version = releases.deprecate(factories.principal(openlab), version_id=version.pk, sunset_at=sunset)
            assert version.deprecated_at is not None
            told[name] = f"@{int(version.deprecated_at.timestamp())}"
        return told

    def restore() -> None:
        ModelVersion.objects.update(deprecated_at=None, sunset_at=None)

    yield site.records(deprecate)
    site.records(restore)


def test_over_rest(site: Site, deprecated: dict[str, str]) -> None:
    answer = ours(site, "openlab/add", *OPERANDS, who=site.customer("openlab/add"))

    assert answer.status == 200
    assert (answer.headers["deprecation"], answer.headers["sunset"]) == (deprecated["add"], TOLD)


def test_without_a_date_nothing_is_said_of_one(site: Site, deprecated: dict[str, str]) -> None:
    turns = message([tensor("turns", "INT64", [1], [1])])
    answer = ours(site, "openlab/slow", *turns, who=site.customer("openlab/slow"))

    assert answer.headers["deprecation"] == deprecated["slow"]
    assert "sunset" not in answer.headers


def test_over_openais_api(site: Site, deprecated: dict[str, str]) -> None:
    body = {"model": "openlab/minilm", "input": "hello"}
    answer = post(site, "embeddings", body, site.customer("openlab/minilm"))

    assert answer.status_code == 200
    assert (answer.headers["deprecation"], answer.headers["sunset"]) == (deprecated["minilm"], TOLD)


def test_over_grpc(site: Site, deprecated: dict[str, str]) -> None:
    told = {"deprecation": deprecated["add"], "sunset": TOLD}
    metadata = bearer(site.customer("openlab/add"))
    with grpc.insecure_channel(site.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        _answer, call = stub.ModelInfer.with_call(question(), metadata=metadata)
        # Once for a stream, however many of its answers it is about.
        stream: Any = stub.ModelStreamInfer(iter([question(), question()]), metadata=metadata)
        assert len([each for each in stream if not each.error_message]) == 2

    for trailing in (call.trailing_metadata(), stream.trailing_metadata()):
        said = [each for each in trailing if each.key in told]
        assert {each.key: each.value for each in said} == told
        assert len(said) == 2


def test_a_version_that_is_to_stay_says_nothing(site: Site, deprecated: dict[str, str]) -> None:
    answer = ours(site, "openlab/secret", *OPERANDS)

    assert answer.status == 200
    assert not {"deprecation", "sunset"} & set(answer.headers)
