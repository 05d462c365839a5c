"""describeModelVersion."""

from typing import Any

import pytest

from graphql_api.nodes import global_id
from marketplace.access import TenantRole
from marketplace.catalog.models import Direction, ModelVersion, TensorSpec
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

DESCRIBE = """
mutation ($input: DescribeModelVersionInput!) {
  describeModelVersion(input: $input) {
    modelVersion {
      releaseNotes
      inputs { name contentType labels example exampleShape }
      outputs { name datatype shape contentType labels example exampleShape }
    }
    errors { __typename code message path }
  }
}"""


@pytest.fixture
def version(marketplace: Marketplace) -> ModelVersion:
    """Live, with a tensor of each kind among its outputs."""
    live = marketplace.version
    factories.tensor(live, Direction.OUTPUT, "scores", position=1, shape=[-1, 3])
    factories.tensor(live, Direction.OUTPUT, "grid", position=2, shape=[-1, -1])
    factories.tensor(live, Direction.OUTPUT, "fixed", position=3, shape=[2, 2], datatype="INT8")
    for position, datatype in enumerate(("UINT64", "FP16", "FP64", "BOOL", "BYTES"), 4):
        factories.tensor(live, Direction.OUTPUT, datatype, position=position, datatype=datatype)
    return live


def described(caller: Caller, version: ModelVersion, *tensors: dict[str, Any], **change: Any) -> dict[str, Any]:
    given = {"modelVersion": global_id("ModelVersion", version.pk), "tensors": list(tensors)}
    answer: dict[str, Any] = caller.data(DESCRIBE, input=given | change)["describeModelVersion"]
    return answer


def output(name: str, **said: Any) -> dict[str, Any]:
    return {"name": name, "direction": "OUTPUT", **said}


class TestSaying:
    def test_a_live_versions_tensors_are_described(self, marketplace: Marketplace, version: ModelVersion) -> None:
        answer = described(
            marketplace.publisher,
            version,
            {"name": "A", "direction": "INPUT", "contentType": "application/x-feature-vector", "example": [1, 2.5]},
            output("scores", contentType="application/x-class-scores", labels=["no", "perhaps", "yes"]),
            releaseNotes="Counts better.",
        )

        assert answer["errors"] == []
        told = answer["modelVersion"]
        assert told["releaseNotes"] == "Counts better."
        assert told["inputs"][0] == {
            "name": "A",
            "contentType": "application/x-feature-vector",
            "labels": None,
            "example": [1, 2.5],
            "exampleShape": [2],
        }
        scores = {
            "contentType": "application/x-class-scores",
            "labels": ["no", "perhaps", "yes"],
            "example": None,
            "exampleShape": None,
        }
        assert told["outputs"][1] == {"name": "scores", "datatype": "FP32", "shape": [-1, 3], **scores}

    def test_what_is_not_named_stays_and_what_is_named_is_described_anew(
        self, marketplace: Marketplace, version: ModelVersion
    ) -> None:
        labelled = output("scores", labels=["a", "b", "c"], contentType="text/plain")
        described(marketplace.publisher, version, labelled, output("SUM", example=[1]), releaseNotes="Kept.")

        told = described(marketplace.publisher, version, output("scores", contentType="image/png"))["modelVersion"]

        assert (told["outputs"][1]["contentType"], told["outputs"][1]["labels"]) == ("image/png", None)
        assert (told["outputs"][0]["example"], told["releaseNotes"]) == ([1], "Kept.")

    def test_the_signature_and_the_artefact_stay(self, marketplace: Marketplace, version: ModelVersion) -> None:
        fixed = ("direction", "position", "name", "datatype", "shape")
        before = list(version.tensors.values(*fixed)), version.sha256, version.status

        described(marketplace.publisher, version, output("scores", labels=["a", "b", "c"]))

        version.refresh_from_db()
        assert (list(version.tensors.values(*fixed)), version.sha256, version.status) == before

    @pytest.mark.parametrize(
        ("said", "shape"),
        [
            pytest.param(output("scores", example=[1, 2, 3, 4, 5, 6]), [2, 3], id="one dynamic dimension is counted"),
            pytest.param(output("scores", example=[], exampleShape=[0, 3]), [0, 3], id="nothing of a shape"),
            pytest.param(output("grid", example=[1, 2], exampleShape=[2, 1]), [2, 1], id="two are said"),
            pytest.param(output("fixed", example=[-128, 0, 1, 127]), [2, 2], id="a fixed shape is known"),
            pytest.param(output("UINT64", example=[2**64 - 1]), [1], id="the largest integer"),
            pytest.param(output("FP16", example=[65504, -0.5]), [2], id="the largest of the small floats"),
            pytest.param(output("BOOL", example=[True, False]), [2], id="truth"),
            pytest.param(output("BYTES", example=["Grüße\n", ""]), [2], id="texts"),
        ],
    )
    def test_an_example_that_fits_is_kept(
        self, marketplace: Marketplace, version: ModelVersion, said: dict[str, Any], shape: list[int]
    ) -> None:
        assert described(marketplace.publisher, version, said)["errors"] == []

        row = TensorSpec.objects.get(version=version, name=said["name"])
        assert (row.example, row.example_shape) == (said["example"], shape)


@pytest.mark.parametrize(
    ("said", "path"),
    [
        pytest.param(output("A"), "name", id="an input is no output"),
        pytest.param(output("B\0"), "name", id="no such name"),
        pytest.param(output("scores", contentType="picture"), "contentType", id="no content type"),
        pytest.param(output("scores", contentType="a/" + "b" * 200), "contentType", id="a long content type"),
        pytest.param(output("scores", contentType="text/plain\0"), "contentType", id="a NUL in a content type"),
        pytest.param(output("scores", labels=["a", "b"]), "labels", id="a label too few"),
        pytest.param(output("scores", labels=["a", "b", ""]), "labels", id="an empty label"),
        pytest.param(output("scores", labels=["a", "b", "\0"]), "labels", id="a NUL in a label"),
        pytest.param(output("SUM", labels=["a"] * 65_537), "labels", id="more labels than anybody reads"),
        pytest.param(output("SUM", exampleShape=[1]), "exampleShape", id="a shape of nothing"),
        pytest.param(output("SUM", example=3), "example", id="a number that is not in a list"),
        pytest.param(output("scores", example=[[1, 2, 3]]), "example", id="nested"),
        pytest.param(output("scores", example=[1, 2]), "example", id="not a whole row"),
        pytest.param(output("scores", example=[1] * 4, exampleShape=[2, 2]), "exampleShape", id="another shape"),
        pytest.param(output("scores", example=[1] * 3, exampleShape=[3]), "exampleShape", id="another rank"),
        pytest.param(output("scores", example=[], exampleShape=[-1, 3]), "exampleShape", id="a negative size"),
        pytest.param(output("grid", example=[1, 2]), "exampleShape", id="two dynamic dimensions"),
        pytest.param(output("fixed", example=[0, 0, 0, 128]), "example", id="too large an integer"),
        pytest.param(output("fixed", example=[0, 0, 0, 1.0]), "example", id="a float among integers"),
        pytest.param(output("fixed", example=[0, 0, 0, True]), "example", id="truth among integers"),
        pytest.param(output("UINT64", example=[-1]), "example", id="a negative one of those without"),
        pytest.param(output("FP16", example=[65505]), "example", id="too large a float"),
        pytest.param(output("FP64", example=[10**400]), "example", id="an integer no float can be"),
        pytest.param(output("FP64", example=["1"]), "example", id="a number in quotes"),
        pytest.param(output("BOOL", example=[1]), "example", id="an integer for truth"),
        pytest.param(output("BYTES", example=[1]), "example", id="a number for text"),
        pytest.param(output("BYTES", example=["\0"]), "example", id="a NUL in text"),
        pytest.param(output("BYTES", example=["x" * 2**20]), "example", id="more than anybody is sent"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(
    marketplace: Marketplace, version: ModelVersion, said: dict[str, Any], path: str
) -> None:
    before = list(version.tensors.values())

    answer = described(marketplace.publisher, version, output("SUM", contentType="text/plain"), said)

    assert answer["modelVersion"] is None
    assert [(error["code"], error["path"]) for error in answer["errors"]] == [("VALIDATION", f"input.tensors.1.{path}")]
    assert list(version.tensors.values()) == before


def test_release_notes_have_an_end(marketplace: Marketplace, version: ModelVersion) -> None:
    (error,) = described(marketplace.publisher, version, releaseNotes="n" * 20_001)["errors"]

    assert (error["code"], error["path"]) == ("VALIDATION", "input.releaseNotes")


@pytest.mark.parametrize(
    ("who", "outcome"),
    [
        ("developer", []),
        ("billing", ["PERMISSION_DENIED"]),
        ("viewer", ["PERMISSION_DENIED"]),
        ("other publisher", ["NOT_FOUND"]),
        ("subscriber", ["NOT_FOUND"]),
        ("stranger", ["NOT_FOUND"]),
    ],
)
def test_only_its_publishers_describe_a_version(
    marketplace: Marketplace, version: ModelVersion, who: str, outcome: list[str]
) -> None:
    callers = {
        "developer": lambda: Caller(key=factories.api_key(marketplace.openlab, TenantRole.DEVELOPER)),
        "billing": lambda: Caller(user=factories.member(marketplace.openlab, TenantRole.BILLING)),
        "viewer": lambda: Caller(user=factories.member(marketplace.openlab, TenantRole.VIEWER)),
        "other publisher": lambda: Caller(user=factories.member(factories.tenant("otherlab", is_publisher=True))),
        "subscriber": lambda: marketplace.owner,
        "stranger": lambda: marketplace.stranger,
    }

    answer = described(callers[who](), version, output("SUM", contentType="text/html"))

    assert [error["code"] for error in answer["errors"]] == outcome
    assert version.tensors.filter(content_type="text/html").exists() == (outcome == [])
