"""createModel, createPlan, releaseModelVersion, rollbackModel."""

from typing import Any

import pytest

from graphql_api.nodes import global_id
from graphql_api.schema import schema
from marketplace.access import TenantRole
from marketplace.catalog.models import MLModel, ModelVersionStatus
from marketplace.publishing.releases import promote_ready
from marketplace.subscriptions.models import Plan
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

CREATE_MODEL = """
mutation ($input: CreateModelInput!) {
  createModel(input: $input) {
    model { ref displayName summary card task tags license visibility liveVersion { number } subscriberCount }
    errors { __typename code message path }
  }
}"""
MODEL = {"name": "letters", "displayName": "Letters", "summary": "Reads a letter.", "license": "Apache-2.0"}

CREATE_PLAN = """
mutation ($input: CreatePlanInput!) {
  createPlan(input: $input) {
    plan {
      name price { amount currency } unit includedUnits overagePrice { amount currency }
      requestsPerSecond burst maxConcurrency
    }
    errors { __typename code message path }
  }
}"""
PLAN = {
    "model": "openlab/digits",
    "name": "Free",
    "price": {"amount": "9.90"},
    "includedUnits": "1000",
    "requestsPerSecond": 10,
    "burst": 20,
}

RELEASE = """
mutation ($input: ReleaseModelVersionInput!) {
  releaseModelVersion(input: $input) { modelVersion { number status } errors { __typename code message path } }
}"""

ROLLBACK = """
mutation ($input: RollbackModelInput!) {
  rollbackModel(input: $input) { model { ref liveVersion { number } } errors { __typename code message path } }
}"""


def created(caller: Caller, **change: Any) -> dict[str, Any]:
    answer: dict[str, Any] = caller.data(CREATE_MODEL, input=MODEL | change)["createModel"]
    return answer


def offered(caller: Caller, **change: Any) -> dict[str, Any]:
    answer: dict[str, Any] = caller.data(CREATE_PLAN, input=PLAN | change)["createPlan"]
    return answer


class TestCreateModel:
    def test_only_what_must_be_said(self, marketplace: Marketplace) -> None:
        assert created(marketplace.publisher) == {
            "model": {
                "ref": "openlab/letters",
                "displayName": "Letters",
                "summary": "Reads a letter.",
                "card": "",
                "task": "OTHER",
                "tags": [],
                "license": "Apache-2.0",
                "visibility": "PRIVATE",
                "liveVersion": None,
                "subscriberCount": 0,
            },
            "errors": [],
        }

    def test_everything(self, marketplace: Marketplace) -> None:
        said = {"card": "# Letters", "task": "OCR", "tags": ["cnn"], "visibility": "PUBLIC"}
        model = created(marketplace.publisher, **said)["model"]
        assert {field: model[field] for field in said} == said

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"name": "Two Words"}, "input.name"),
            ({"name": "digits"}, "input.name"),
            ({"displayName": ""}, "input.displayName"),
            ({"summary": "x" * 301}, "input.summary"),
            ({"license": " "}, "input.license"),
            ({"tags": ["t"] * 2 + ["\u0000"]}, "input.tags"),
        ],
    )
    def test_a_wrong_field_is_named(self, marketplace: Marketplace, change: dict[str, Any], path: str) -> None:
        before = MLModel.objects.count()
        answer = created(marketplace.publisher, **change)
        assert answer["model"] is None
        assert [(error["__typename"], error["path"]) for error in answer["errors"]] == [("ValidationProblem", path)]
        assert MLModel.objects.count() == before


class TestCreatePlan:
    def test_without_an_overage_price(self, marketplace: Marketplace) -> None:
        assert offered(marketplace.publisher) == {
            "plan": {
                "name": "Free",
                "price": {"amount": "9.9", "currency": "USD"},
                "unit": "CALL",
                "includedUnits": "1000",
                "overagePrice": None,
                "requestsPerSecond": 10,
                "burst": 20,
                "maxConcurrency": None,
            },
            "errors": [],
        }

    def test_with_one_in_the_same_currency(self, marketplace: Marketplace) -> None:
        money = {"amount": "0.01", "currency": "EUR"}
        plan = offered(marketplace.publisher, price={"amount": "5", "currency": "EUR"}, overagePrice=money)["plan"]
        assert plan["overagePrice"] == money

    @pytest.mark.parametrize("unit", ["ELEMENT", "SECOND"])
    def test_it_may_count_something_else_than_calls_and_limit_how_many_run(
        self, marketplace: Marketplace, unit: str
    ) -> None:
        plan = offered(marketplace.publisher, unit=unit, maxConcurrency=4)["plan"]
        assert (plan["unit"], plan["maxConcurrency"]) == (unit, 4)

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"maxConcurrency": 0}, "input.maxConcurrency"),
            ({"unit": "TOKEN"}, "input.maxTokensPerCall"),
            ({"unit": "TOKEN", "maxTokensPerCall": 0}, "input.maxTokensPerCall"),
            ({"name": ""}, "input.name"),
            ({"name": "Scale"}, "input.name"),
            ({"price": {"amount": "-1"}}, "input.price.amount"),
            ({"price": {"amount": "1", "currency": "euro"}}, "input.price.currency"),
            ({"overagePrice": {"amount": "1", "currency": "EUR"}}, "input.overagePrice.currency"),
            ({"overagePrice": {"amount": "-1"}}, "input.overagePrice.amount"),
            ({"includedUnits": "-1"}, "input.includedUnits"),
            ({"requestsPerSecond": 0}, "input.requestsPerSecond"),
            ({"burst": -5}, "input.burst"),
        ],
    )
    def test_a_wrong_field_is_named(self, marketplace: Marketplace, change: dict[str, Any], path: str) -> None:
        before = Plan.objects.count()
        answer = offered(marketplace.publisher, **change)
        assert answer["plan"] is None
        assert [(error["__typename"], error["path"]) for error in answer["errors"]] == [("ValidationProblem", path)]
        assert Plan.objects.count() == before


class TestReleasing:
    def test_a_ready_version_goes_live_once_it_is_warm(self, marketplace: Marketplace) -> None:
        version = factories.version(marketplace.model, status=ModelVersionStatus.READY, released_at=None)
        wanted = {"modelVersion": global_id("ModelVersion", version.pk)}
        answer = marketplace.publisher.data(RELEASE, input=wanted)["releaseModelVersion"]
        assert answer == {"modelVersion": {"number": version.number, "status": "READY"}, "errors": []}
        promote_ready([version.pk])
        version.refresh_from_db()
        assert version.status == ModelVersionStatus.LIVE

    def test_a_draft_is_not_released(self, marketplace: Marketplace) -> None:
        wanted = {"modelVersion": global_id("ModelVersion", marketplace.draft.pk)}
        (error,) = marketplace.publisher.data(RELEASE, input=wanted)["releaseModelVersion"]["errors"]
        assert (error["__typename"], error["path"]) == ("ValidationProblem", "input.modelVersion")

    def test_an_id_of_something_else_is_not_found(self, marketplace: Marketplace) -> None:
        wanted = {"modelVersion": global_id("Model", marketplace.model.pk)}
        (error,) = marketplace.publisher.data(RELEASE, input=wanted)["releaseModelVersion"]["errors"]
        assert error["code"] == "NOT_FOUND"


class TestRollingBack:
    def test_goes_back(self, marketplace: Marketplace) -> None:
        version = factories.version(marketplace.model, status=ModelVersionStatus.READY, released_at=None)
        marketplace.publisher.data(RELEASE, input={"modelVersion": global_id("ModelVersion", version.pk)})
        promote_ready([version.pk])
        answer = marketplace.publisher.data(ROLLBACK, input={"model": "openlab/digits"})["rollbackModel"]
        assert answer == {"model": {"ref": "openlab/digits", "liveVersion": {"number": 1}}, "errors": []}

    def test_says_when_there_is_nothing_to_go_back_to(self, marketplace: Marketplace) -> None:
        (error,) = marketplace.publisher.data(ROLLBACK, input={"model": "openlab/digits"})["rollbackModel"]["errors"]
        assert (error["code"], error["path"]) == ("VALIDATION", "input.model")


DONE, DENIED, NOT_FOUND, SIGN_IN = "done", "PERMISSION_DENIED", "NOT_FOUND", "UNAUTHENTICATED"

# Mutation: its document, input, and what each caller of `everybody` gets.
ACCESS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "createModel": (
        CREATE_MODEL,
        lambda marketplace: MODEL,
        {"owner": DONE, "developer": DONE, "billing": DENIED, "other publisher": DONE, "consumer": DENIED},
    ),
    "createPlan": (
        CREATE_PLAN,
        lambda marketplace: PLAN,
        {"owner": DONE, "developer": DONE, "billing": DENIED, "other publisher": NOT_FOUND, "consumer": NOT_FOUND},
    ),
    "releaseModelVersion": (
        RELEASE,
        lambda marketplace: {"modelVersion": global_id("ModelVersion", marketplace.version.pk)},
        {"owner": DONE, "developer": DONE, "billing": DENIED, "other publisher": NOT_FOUND, "consumer": NOT_FOUND},
    ),
    "rollbackModel": (
        ROLLBACK,
        lambda marketplace: {"model": "openlab/digits"},
        {"owner": DONE, "developer": DONE, "billing": DENIED, "other publisher": NOT_FOUND, "consumer": NOT_FOUND},
    ),
}


def everybody(marketplace: Marketplace) -> dict[str, Caller]:
    return {
        "owner": marketplace.publisher,
        "developer": Caller(key=factories.api_key(marketplace.openlab, TenantRole.DEVELOPER)),
        "billing": Caller(user=factories.member(marketplace.openlab, TenantRole.BILLING)),
        "other publisher": Caller(user=factories.member(factories.tenant("otherlab", is_publisher=True))),
        "consumer": marketplace.owner,
        "anonymous": marketplace.anonymous,
        "revoked": marketplace.revoked,
    }


@pytest.mark.parametrize("caller", ["owner", "developer", "billing", "other publisher", "consumer"])
@pytest.mark.parametrize("mutation", ACCESS)
def test_who_may(marketplace: Marketplace, mutation: str, caller: str) -> None:
    document, input_of, outcomes = ACCESS[mutation]
    before = factories.version(marketplace.model, status=ModelVersionStatus.READY)
    marketplace.version.live_before = before
    marketplace.version.save(update_fields=["live_before"])
    answer = everybody(marketplace)[caller].data(document, input=input_of(marketplace))[mutation]
    assert ([error["code"] for error in answer["errors"]] or [DONE]) == [outcomes[caller]]


@pytest.mark.parametrize("caller", ["anonymous", "revoked"])
@pytest.mark.parametrize("mutation", ACCESS)
def test_who_must_sign_in(marketplace: Marketplace, mutation: str, caller: str) -> None:
    document, input_of, _outcomes = ACCESS[mutation]
    error = everybody(marketplace)[caller].error(document, input=input_of(marketplace))
    assert error["extensions"]["code"] == SIGN_IN


@pytest.mark.parametrize("mutation", ["createPlan", "releaseModelVersion", "rollbackModel"])
def test_another_publishers_thing_answers_as_a_missing_one(marketplace: Marketplace, mutation: str) -> None:
    nobody = "01900000-0000-7000-8000-000000000000"
    missing: dict[str, Any] = {
        "createPlan": PLAN | {"model": "openlab/nothing"},
        "releaseModelVersion": {"modelVersion": global_id("ModelVersion", nobody)},  # type: ignore[arg-type]
        "rollbackModel": {"model": "openlab/nothing"},
    }
    document, input_of, _outcomes = ACCESS[mutation]
    stranger = everybody(marketplace)["other publisher"]
    foreign = stranger.data(document, input=input_of(marketplace))
    assert foreign == stranger.data(document, input=missing[mutation])


def test_every_publishing_mutation_has_a_row() -> None:
    from graphql_api.publishing import PublishingMutation  # noqa: PLC0415  (only this test looks inside)

    names = {field.name for field in PublishingMutation.__strawberry_definition__.fields}  # type: ignore[attr-defined]
    root = schema._schema.mutation_type
    assert root is not None
    assert {name.replace("_", "") for name in names} == {name.lower() for name in ACCESS}
    assert set(ACCESS) <= set(root.fields)
