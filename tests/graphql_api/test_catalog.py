"""Browsing: search with its typos, filters, facets, and what a model's page shows to whom."""

from typing import Any

import pytest

from marketplace.catalog.models import Direction, Visibility
from marketplace.tenants.models import Tenant
from tests import factories
from tests.graphql_api.caller import Caller, nodes
from tests.graphql_api.conftest import Marketplace

SEARCH = """
query ($search: String, $filter: ModelFilter, $orderBy: ModelOrder! = RELEVANCE) {
  models(search: $search, filter: $filter, orderBy: $orderBy) { totalCount edges { node { name } } }
}"""

FACETS = """
query ($search: String, $filter: ModelFilter) {
  models(search: $search, filter: $filter) { facets {
    tasks { value count } tags { value count } licenses { value count } publishers { value count }
  } }
}"""

MODEL = """
query ($ref: String!) {
  model(ref: $ref) {
    ref displayName summary card cardHtml task tags license visibility subscriberCount publisher { slug name }
    liveVersion { number }
    versions { edges { node { number status format sha256 sizeBytes } } }
    plans { name price { amount currency } includedUnits overagePrice { amount currency } requestsPerSecond burst }
  }
}"""

SIGNATURE = """
{
  model(ref: "openlab/digits") { liveVersion {
    inputs { name datatype shape contentType labels example exampleShape }
    outputs { name datatype shape contentType labels example exampleShape }
  } }
}"""


@pytest.fixture
def catalogue(db: None) -> Tenant:
    """Models of openlab, one of rival."""
    openlab = factories.tenant("openlab", is_publisher=True)
    rival = factories.tenant("rival", is_publisher=True)
    for name, title, summary, task, tags, licence in (
        (
            "digits",
            "Handwritten digits",
            "Reads a handwritten digit.",
            "IMAGE_CLASSIFICATION",
            ["vision", "mnist"],
            "MIT",
        ),
        ("sentiment", "Sentiment", "Tells praise from complaint.", "TEXT_CLASSIFICATION", ["text", "english"], "MIT"),
        (
            "tumour",
            "Tumour",
            "Benign or malignant, by 30 numbers.",
            "TABULAR_CLASSIFICATION",
            ["medicine"],
            "BSD-3-Clause",
        ),
        ("minilm", "MiniLM", "Embeds sentences.", "TEXT_EMBEDDING", ["text"], "Apache-2.0"),
    ):
        factories.model(openlab, name, display_name=title, summary=summary, task=task, tags=tags, license=licence)
    factories.model(rival, "ocr", summary="Reads print.", task="OCR", tags=["vision"], license="MIT")
    return openlab


def found(caller: Caller | None = None, **arguments: Any) -> list[str]:
    return [node["name"] for node in nodes((caller or Caller()).data(SEARCH, **arguments)["models"])]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("digits", "digits"),
        ("DIGITS", "digits"),
        ("handwritten digit", "digits"),
        ("digts", "digits"),
        ("sentiment", "sentiment"),
        ("sentimnt", "sentiment"),
        ("praise", "sentiment"),
        ("tumor", "tumour"),
        ("tumour", "tumour"),
        ("malignent", "tumour"),
        ("embed sentence", "minilm"),
        ("  minilm  ", "minilm"),
    ],
)
def test_search_finds_the_model_that_was_meant_first(catalogue: Tenant, text: str, name: str) -> None:
    assert found(search=text)[:1] == [name]


@pytest.mark.parametrize("text", ["zebra", "'; DROP TABLE x; --", "& | ! ( ) :*", "\\", "%", "a" * 5000, "🦓"])
def test_search_for_what_is_not_there_finds_nothing(catalogue: Tenant, text: str) -> None:
    assert found(search=text) == []


@pytest.mark.parametrize("text", ["", "   ", "\0", None])
def test_search_for_nothing_finds_everything(catalogue: Tenant, text: str | None) -> None:
    assert len(found(search=text)) == 5


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"tasks": ["OCR"]}, ["ocr"]),
        ({"tasks": ["OCR", "TEXT_EMBEDDING"]}, ["minilm", "ocr"]),
        ({"tags": ["vision"]}, ["digits", "ocr"]),
        ({"tags": ["vision", "mnist"]}, ["digits"]),
        ({"licenses": ["BSD-3-Clause", "Apache-2.0"]}, ["minilm", "tumour"]),
        ({"publisher": "rival"}, ["ocr"]),
        ({"publisher": "rival", "licenses": ["BSD-3-Clause"]}, []),
        ({"publisher": "nobody"}, []),
        ({"tasks": [], "tags": [], "licenses": []}, ["digits", "minilm", "ocr", "sentiment", "tumour"]),
    ],
)
def test_filters_narrow_the_list(catalogue: Tenant, wanted: dict[str, Any], names: list[str]) -> None:
    assert found(filter=wanted, orderBy="NAME") == names


def test_a_filter_narrows_a_search(catalogue: Tenant) -> None:
    assert found(search="reads", filter={"publisher": "rival"}) == ["ocr"]


@pytest.mark.parametrize("wanted", [{"tags": ["a\0b"]}, {"publisher": "\0"}, {"licenses": ["\0"]}])
def test_a_filter_that_no_model_can_meet_is_refused(catalogue: Tenant, wanted: dict[str, Any]) -> None:
    assert Caller().error(SEARCH, filter=wanted)["extensions"]["code"] == "VALIDATION"


def test_subscribed_is_what_the_callers_tenant_holds(marketplace: Marketplace) -> None:
    assert found(marketplace.owner, filter={"subscribed": True}) == ["digits"]
    assert found(marketplace.owner, filter={"subscribed": False}) == ["secret"]
    assert found(marketplace.stranger, filter={"subscribed": True}) == []
    assert found(marketplace.anonymous, filter={"subscribed": True}) == []


def test_facets_count_what_is_found(catalogue: Tenant) -> None:
    facets = Caller().data(FACETS, search="reads")["models"]["facets"]

    assert facets == {
        "tasks": [{"value": "IMAGE_CLASSIFICATION", "count": 1}, {"value": "OCR", "count": 1}],
        "tags": [{"value": "vision", "count": 2}, {"value": "mnist", "count": 1}],
        "licenses": [{"value": "MIT", "count": 2}],
        "publishers": [{"value": "openlab", "count": 1}, {"value": "rival", "count": 1}],
    }


def test_a_facet_counts_what_choosing_another_of_its_values_would_find(catalogue: Tenant) -> None:
    facets = Caller().data(FACETS, filter={"tasks": ["OCR"], "licenses": ["MIT"]})["models"]["facets"]

    assert [entry["value"] for entry in facets["tasks"]] == ["IMAGE_CLASSIFICATION", "OCR", "TEXT_CLASSIFICATION"]
    assert facets["licenses"] == [{"value": "MIT", "count": 1}]


def test_facets_count_nothing_that_the_caller_may_not_see(marketplace: Marketplace) -> None:
    counted = {
        caller: getattr(marketplace, caller).data(FACETS)["models"]["facets"]["publishers"][0]["count"]
        for caller in ("owner", "stranger", "publisher", "anonymous")
    }

    assert counted == {"owner": 2, "stranger": 1, "publisher": 2, "anonymous": 1}


def test_a_model_shows_what_its_publisher_says(marketplace: Marketplace) -> None:
    factories.plan(marketplace.model, name="Metered", price="9.5", overage_price="0.001", position=1)

    model = marketplace.anonymous.data(MODEL, ref="openlab/digits")["model"]

    assert model["ref"] == "openlab/digits"
    assert model["publisher"] == {"slug": "openlab", "name": "Openlab"}
    assert model["liveVersion"] == {"number": 1}
    assert model["subscriberCount"] == 1
    assert [plan["name"] for plan in model["plans"]] == ["Scale", "Metered"]
    assert model["plans"][1]["price"] == {"amount": "9.5", "currency": "USD"}
    assert model["plans"][1]["overagePrice"] == {"amount": "0.001", "currency": "USD"}
    assert model["plans"][0]["overagePrice"] is None


@pytest.mark.parametrize(
    "ref", ["", "digits", "openlab", "openlab/", "/digits", "openlab/digits/1", "open\0lab/x", "é/é"]
)
def test_a_reference_that_names_nothing_answers_null(marketplace: Marketplace, ref: str) -> None:
    assert marketplace.anonymous.data(MODEL, ref=ref) == {"model": None}


def test_others_see_released_versions_and_the_publisher_its_drafts(marketplace: Marketplace) -> None:
    def numbers(caller: Caller) -> list[int]:
        return [node["number"] for node in nodes(caller.data(MODEL, ref="openlab/digits")["model"]["versions"])]

    assert numbers(marketplace.owner) == numbers(marketplace.anonymous) == [1]
    assert numbers(marketplace.publisher) == [3, 2, 1]


def test_a_hidden_plan_is_not_on_offer(marketplace: Marketplace) -> None:
    factories.plan(marketplace.model, name="Old", hidden_at="2026-01-01T00:00Z")

    model = marketplace.publisher.data(MODEL, ref="openlab/digits")["model"]

    assert [plan["name"] for plan in model["plans"]] == ["Scale"]


def test_a_private_model_is_gone_again_when_the_grant_is(marketplace: Marketplace) -> None:
    document = '{ model(ref: "openlab/secret") { name } }'
    assert marketplace.owner.data(document)["model"] == {"name": "secret"}

    marketplace.secret.grants.all().delete()

    assert marketplace.owner.data(document) == {"model": None}


def test_a_publishers_private_models_are_listed_to_those_who_may_see_them(marketplace: Marketplace) -> None:
    document = '{ publisher(slug: "openlab") { models { totalCount edges { node { name } } } } }'

    owner = marketplace.owner.data(document)["publisher"]["models"]
    stranger = marketplace.stranger.data(document)["publisher"]["models"]

    assert ([node["name"] for node in nodes(owner)], owner["totalCount"]) == (["secret", "digits"], 2)
    assert ([node["name"] for node in nodes(stranger)], stranger["totalCount"]) == (["digits"], 1)


def test_a_card_is_rendered_without_what_could_harm_its_reader(marketplace: Marketplace) -> None:
    marketplace.model.card = (
        "# Digits\n\n| data | accuracy |\n|---|---|\n| MNIST | 0.97 |\n\n<script>alert(1)</script>\n\n"
        "[click](javascript:alert(1)) ![x](x.png 'a\" onerror=\"alert(1)') [site](https://example.com)"
    )
    marketplace.model.save()

    html = marketplace.anonymous.data(MODEL, ref="openlab/digits")["model"]["cardHtml"]

    assert "<h1>Digits</h1>" in html
    assert "<td>0.97</td>" in html
    assert "<script" not in html
    assert 'href="javascript' not in html
    assert '" onerror="' not in html
    assert 'href="https://example.com" rel="nofollow noopener noreferrer"' in html


def test_a_version_shows_its_signature(marketplace: Marketplace) -> None:
    version = marketplace.version
    version.tensors.all().delete()
    factories.tensor(
        version,
        Direction.INPUT,
        "image",
        shape=[-1, 1, 28, 28],
        content_type="image/png",
        example=[0.5],
        example_shape=[1],
    )
    factories.tensor(version, Direction.OUTPUT, "scores", shape=[-1, 2], labels=["zero", "one"])

    answer = marketplace.anonymous.data(SIGNATURE)["model"]["liveVersion"]

    assert answer["inputs"] == [
        {
            "name": "image",
            "datatype": "FP32",
            "shape": [-1, 1, 28, 28],
            "contentType": "image/png",
            "labels": None,
            "example": [0.5],
            "exampleShape": [1],
        }
    ]
    assert [(output["name"], output["labels"]) for output in answer["outputs"]] == [("scores", ["zero", "one"])]


def test_a_public_model_made_private_leaves_the_catalogue(marketplace: Marketplace) -> None:
    marketplace.model.visibility = Visibility.PRIVATE
    marketplace.model.save()

    assert found(marketplace.stranger) == []
