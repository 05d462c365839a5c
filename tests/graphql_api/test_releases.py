"""setCanary, promoteCanary, setShadow, deprecateModelVersion, retireModelVersion, pinModelVersion; what they leave."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from graphql_api.nodes import global_id
from inference.models import ShadowComparison
from marketplace.catalog.models import ModelVersion, ReleaseEvent
from marketplace.publishing import releases
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

MODEL = """{ model(ref: "openlab/digits") {
  liveVersion { number } releasingVersion { number } releasingPercent
  canaryVersion { number } canaryPercent shadowVersion { number } shadowPercent
} }"""
HISTORY = """query ($first: Int, $after: String) {
 model(ref: "openlab/digits") { releases(first: $first, after: $after) {
  totalCount
  pageInfo { hasNextPage endCursor }
  edges { node { kind percent reason at by version { number inputs { name } } } }
} } }"""


def change(caller: Caller, name: str, returning: str, **input: Any) -> dict[str, Any]:
    document = """mutation ($input: %sInput!) { %s(input: $input) { %s errors { __typename code path } } }"""
    answer: dict[str, Any] = caller.data(document % (name[0].upper() + name[1:], name, returning), input=input)[name]
    return answer


def node(version: ModelVersion) -> str:
    return global_id("ModelVersion", version.pk)


def numbers(model: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value["number"] if isinstance(value, dict) else value
        for name, value in model.items()
        if value is not None
    }


def test_a_canary_from_its_request_to_its_promotion(marketplace: Marketplace) -> None:
    publisher, ready = marketplace.publisher, marketplace.ready
    answer = change(
        publisher,
        "setCanary",
        "model { releasingVersion { number } }",
        model="openlab/digits",
        modelVersion=node(ready),
        percent=25,
    )
    assert answer == {"model": {"releasingVersion": {"number": 3}}, "errors": []}
    assert numbers(publisher.data(MODEL)["model"]) == {
        "liveVersion": 1,
        "releasingVersion": 3,
        "releasingPercent": 25,
        "canaryPercent": 0,
        "shadowPercent": 0,
    }

    releases.promote_ready([ready.pk])
    told = numbers(publisher.data(MODEL)["model"])
    assert (told["canaryVersion"], told["canaryPercent"]) == (3, 25)
    # Whoever else sees the model is told of none of it.
    assert numbers(marketplace.owner.data(MODEL)["model"]) == {"liveVersion": 1}

    answer = change(publisher, "promoteCanary", "model { liveVersion { number } }", model="openlab/digits")
    assert answer == {"model": {"liveVersion": {"number": 3}}, "errors": []}


def test_a_shadow_comes_and_goes(marketplace: Marketplace) -> None:
    shown = "model { shadowVersion { number } shadowPercent }"
    wanted = {"model": "openlab/digits", "modelVersion": node(marketplace.ready), "percent": 10}
    answer = change(marketplace.publisher, "setShadow", shown, **wanted)
    assert answer["model"] == {"shadowVersion": {"number": 3}, "shadowPercent": 10}
    answer = change(marketplace.publisher, "setShadow", shown, model="openlab/digits", percent=0)
    assert answer["model"] == {"shadowVersion": None, "shadowPercent": 0}


def test_a_shadows_answers_are_compared(marketplace: Marketplace) -> None:
    now = timezone.now()
    ShadowComparison.objects.create(
        shadow=marketplace.ready, live=marketplace.version, since=now, updated_at=now, asked=5, equal=3, different=1,
        failed=1, shadow_ms=10, live_ms=20, max_difference=0.5,
    )  # fmt: skip
    document = """{ model(ref: "openlab/digits") { shadowComparisons {
      shadow { number } live { number } asked equal close different mismatched failed dropped maxDifference
      shadowLatencyMs liveLatencyMs
    } } }"""
    (told,) = marketplace.publisher.data(document)["model"]["shadowComparisons"]
    assert (told["shadow"], told["live"]) == ({"number": 3}, {"number": 1})
    counts = {"asked": 5, "equal": 3, "close": 0, "different": 1, "mismatched": 0, "failed": 1, "dropped": 0}
    assert {name: int(told[name]) for name in counts} == counts
    assert (told["maxDifference"], told["shadowLatencyMs"], told["liveLatencyMs"]) == (0.5, 2.5, 5.0)


def test_a_version_is_deprecated_and_everybody_is_told_when_it_ends(marketplace: Marketplace) -> None:
    sunset = (timezone.now() + timedelta(days=90)).replace(microsecond=0)
    shown = "modelVersion { deprecatedAt sunsetAt }"
    wanted = {"modelVersion": node(marketplace.version), "sunsetAt": sunset.isoformat()}
    answer = change(marketplace.publisher, "deprecateModelVersion", shown, **wanted)
    document = '{ model(ref: "openlab/digits") { liveVersion { deprecatedAt sunsetAt } } }'
    assert answer["modelVersion"]["sunsetAt"] == f"{sunset:%Y-%m-%dT%H:%M:%SZ}"
    assert marketplace.anonymous.data(document)["model"]["liveVersion"] == answer["modelVersion"]


def test_a_version_is_retired(marketplace: Marketplace) -> None:
    answer = change(
        marketplace.publisher, "retireModelVersion", "modelVersion { status }", modelVersion=node(marketplace.ready)
    )
    assert answer == {"modelVersion": {"status": "RETIRED"}, "errors": []}


def test_a_subscriber_pins_a_version_and_lets_go_of_it(marketplace: Marketplace) -> None:
    subscription = global_id("ModelSubscription", marketplace.subscription.pk)
    shown = "modelSubscription { pinnedVersion { number } }"
    for version, number in ((node(marketplace.version), {"number": 1}), (None, None)):
        answer = change(
            marketplace.owner, "pinModelVersion", shown, modelSubscription=subscription, modelVersion=version
        )
        assert answer == {"modelSubscription": {"pinnedVersion": number}, "errors": []}


@pytest.mark.parametrize(
    ("name", "shown", "input", "path"),
    [
        ("setCanary", "model { id }", {"model": "openlab/digits", "percent": 101}, "input.percent"),
        ("setShadow", "model { id }", {"model": "openlab/digits", "percent": -1}, "input.percent"),
        (
            "setCanary",
            "model { id }",
            {"model": "openlab/digits", "modelVersion": "x", "percent": 1},
            "input.modelVersion",
        ),
        ("promoteCanary", "model { id }", {"model": "openlab/digits"}, "input.model"),
        ("deprecateModelVersion", "modelVersion { id }", {"modelVersion": "draft"}, "input.modelVersion"),
        ("deprecateModelVersion", "modelVersion { id }", {"sunsetAt": "2001-01-01T00:00:00Z"}, "input.sunsetAt"),
        ("retireModelVersion", "modelVersion { id }", {}, "input.modelVersion"),
        ("pinModelVersion", "modelSubscription { id }", {"modelVersion": "draft"}, "input.modelVersion"),
    ],
)
def test_what_is_wrong_is_named(
    marketplace: Marketplace, name: str, shown: str, input: dict[str, Any], path: str
) -> None:
    who = marketplace.publisher
    if "Model" in name:
        version = marketplace.draft if input.get("modelVersion") == "draft" else marketplace.version
        input = input | {"modelVersion": node(version)}
    if name == "pinModelVersion":
        who = marketplace.owner
        input = input | {"modelSubscription": global_id("ModelSubscription", marketplace.subscription.pk)}
    (error,) = change(who, name, shown, **input)["errors"]
    assert error["path"] == path


class TestHistory:
    def test_it_says_what_and_who_newest_first(self, marketplace: Marketplace) -> None:
        key = factories.api_key_row(marketplace.openlab, name="ci")
        moment = timezone.now()
        for kind, fields in (
            ("RELEASED", {"version": marketplace.version, "api_key": key}),
            ("SHADOW", {"version": marketplace.ready, "percent": 5, "user": factories.member(marketplace.openlab)}),
            ("TAKEN_DOWN", {"reason": "It counts badly.", "user": factories.user(is_staff=True)}),
        ):
            moment += timedelta(seconds=1)
            ReleaseEvent.objects.create(model=marketplace.model, kind=kind, at=moment, **fields)

        told = marketplace.publisher.data(HISTORY, first=10)["model"]["releases"]
        taken_down, shadow, released = (edge["node"] for edge in told["edges"])
        assert told["totalCount"] == 3
        assert (released["kind"], released["by"], released["version"]["number"]) == ("RELEASED", "ci", 1)
        assert (shadow["kind"], shadow["percent"], shadow["version"]["number"]) == ("SHADOW", 5, 3)
        assert shadow["by"].endswith("@example.com")
        assert (taken_down["reason"], taken_down["by"], taken_down["version"]) == ("It counts badly.", None, None)

    def test_it_has_pages(self, marketplace: Marketplace) -> None:
        for kind in ("REQUESTED", "RELEASED"):
            ReleaseEvent.objects.create(model=marketplace.model, version=marketplace.version, kind=kind)
        first = marketplace.publisher.data(HISTORY, first=1)["model"]["releases"]
        second = marketplace.publisher.data(HISTORY, first=1, after=first["pageInfo"]["endCursor"])["model"]["releases"]
        kinds = [page["edges"][0]["node"]["kind"] for page in (first, second)]
        assert (kinds, second["pageInfo"]["hasNextPage"]) == (["RELEASED", "REQUESTED"], False)

    def test_its_cost_does_not_grow_with_it(self, marketplace: Marketplace, django_assert_num_queries: Any) -> None:
        def fill() -> None:
            version = factories.version(marketplace.model, status="READY")
            ReleaseEvent.objects.create(
                model=marketplace.model, version=version, kind="SHADOW", user=factories.member(marketplace.openlab)
            )

        fill()
        marketplace.publisher.data(HISTORY, first=20)
        with CaptureQueriesContext(connection) as once:
            marketplace.publisher.data(HISTORY, first=20)
        for _ in range(5):
            fill()
        with django_assert_num_queries(len(once)):
            marketplace.publisher.data(HISTORY, first=20)

    def test_it_knows_which_version_was_live(self, marketplace: Marketplace) -> None:
        moment = timezone.now()
        for seconds, version in ((0, marketplace.version), (10, marketplace.ready)):
            ReleaseEvent.objects.create(
                model=marketplace.model, version=version, kind="RELEASED", at=moment + timedelta(seconds=seconds)
            )
        document = """query ($at: DateTime!) { model(ref: "openlab/digits") { versionLiveAt(at: $at) { number } } }"""
        live = [
            marketplace.publisher.data(document, at=(moment + timedelta(seconds=seconds)).isoformat())["model"]
            for seconds in (-1, 5, 10)
        ]
        assert [each["versionLiveAt"] for each in live] == [None, {"number": 1}, {"number": 3}]
