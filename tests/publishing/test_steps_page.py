"""The panel's form that puts provided steps around a version's network."""

from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from inference.ensembles import read_ensemble
from marketplace.catalog.models import Direction, ModelVersion, ModelVersionStatus
from marketplace.objects import store
from marketplace.publishing import provided
from tests import factories
from tests.inference.ensembles import words
from tests.publishing.conftest import House

PICTURE = {
    "before": "image",
    "into": "image",
    "width": "28",
    "height": "28",
    "color": "GRAYSCALE",
    "layout": "NCHW",
    "fit": "STRETCH",
    "scale": "0.5",
    "std": "0.25",
}
LABELS = {"after": "on", "out_of": "scores", "softmax": "on", "labels": "no\r\nyes\r\n", "top": "5"}


@pytest.fixture
def version(house: House, settings: Any, tmp_path: Path) -> ModelVersion:
    """READY: a picture of 28 x 28 grey pixels in, two scores out."""
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"
    sha256, size = store().put(b"the network")
    row = factories.version(house.model, status="READY", sha256=sha256, size_bytes=size)
    row.tensors.all().delete()
    factories.tensor(row, Direction.INPUT, "image", shape=[-1, 1, 28, 28])
    factories.tensor(row, Direction.OUTPUT, "scores", shape=[-1, 2], labels=["no", "yes"])
    return row


def page_of(version: ModelVersion) -> str:
    return f"/publish/catalog/modelversion/{version.pk}/steps/"


def newest(version: ModelVersion) -> ModelVersion:
    return version.model.versions.order_by("-number")[0]


def problems(answer: Any) -> list[str]:
    return list(answer.context["form"].errors)


def test_the_form_begins_with_what_the_tensors_suggest(house: House, version: ModelVersion) -> None:
    form = house.browser("owner").get(page_of(version)).context["form"]

    suggested = {name: form[name].value() for name in ("before", "into", "width", "height", "color", "layout")}
    assert suggested == {name: PICTURE[name] for name in ("before", "into", "color", "layout")} | {
        "width": 28,
        "height": 28,
    }
    assert (form["after"].value(), form["out_of"].value(), form["labels"].value()) == (True, "scores", "no\nyes")


def test_a_new_version_is_made_and_shown(house: House, version: ModelVersion) -> None:
    answer = house.browser("developer").post(page_of(version), PICTURE | LABELS | {"release_notes": "Pictures."})

    composed = newest(version)
    assert answer["Location"] == reverse("publish:catalog_modelversion_change", args=[composed.pk])
    assert (composed.status, composed.release_notes) == (ModelVersionStatus.VALIDATING, "Pictures.")
    before, _network, after = read_ensemble(store().get(composed.sha256)).steps
    assert provided.Image.read(before.files["image.json"]) == provided.Image(
        width=28, height=28, color="GRAYSCALE", layout="NCHW", fit="STRETCH", scale=0.5, mean=(0.0,), std=(0.25,)
    )
    assert provided.Labels.read(after.files["labels.json"]) == provided.Labels(
        softmax=True, labels=("no", "yes"), top=2
    )


def test_a_tokenizer_comes_with_the_form(house: House, version: ModelVersion) -> None:
    factories.tensor(version, Direction.INPUT, "input_ids", shape=[-1, -1], datatype="INT64", position=1)
    tokenizer = words("the")

    house.browser("owner").post(
        page_of(version), {"before": "tokenizer", "tokenizer": SimpleUploadedFile("tokenizer.json", tokenizer)}
    )

    assert read_ensemble(store().get(newest(version).sha256)).steps[0].files["tokenizer.json"] == tokenizer


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({}, "__all__", id="nothing"),
        pytest.param(PICTURE | {"width": ""}, "width", id="no width"),
        pytest.param(PICTURE | {"width": "29"}, "before", id="another width"),
        pytest.param(PICTURE | {"scale": "-1"}, "scale", id="a negative scale"),
        pytest.param(PICTURE | {"mean": "grey"}, "mean", id="a mean that is no number"),
        pytest.param(PICTURE | {"std": "1, 1"}, "std", id="a number too many"),
        pytest.param(PICTURE | {"into": "nothing"}, "into", id="no such input"),
        pytest.param({"before": "tokenizer"}, "tokenizer", id="no tokenizer"),
        pytest.param(LABELS | {"labels": "one"}, "after", id="a label too few"),
        pytest.param({"after": "on", "out_of": "scores"}, "labels", id="neither softmax nor labels"),
        pytest.param(LABELS | {"top": "0"}, "top", id="no label wanted"),
    ],
)
def test_an_error_is_shown_at_its_field(house: House, version: ModelVersion, given: dict[str, str], field: str) -> None:
    answer = house.browser("owner").post(page_of(version), given)

    assert problems(answer) == [field]
    assert newest(version) == version


def test_what_is_no_tokenizer_is_said_at_its_file(house: House, version: ModelVersion) -> None:
    factories.tensor(version, Direction.INPUT, "input_ids", shape=[-1, -1], datatype="INT64", position=1)

    answer = house.browser("owner").post(
        page_of(version), {"before": "tokenizer", "tokenizer": SimpleUploadedFile("tokenizer.json", b"{}")}
    )

    assert problems(answer) == ["tokenizer"]


@pytest.mark.parametrize("who", ["other publisher", "billing", "viewer"])
def test_nobody_else_makes_one(house: House, version: ModelVersion, who: str) -> None:
    house.browser(who).post(page_of(version), PICTURE)

    assert newest(version) == version
