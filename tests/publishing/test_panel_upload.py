"""Uploading in the panel: what the page sends, and the form as it is without JavaScript."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from marketplace.catalog.models import ModelVersion
from marketplace.publishing import uploads
from marketplace.publishing.models import Upload, UploadStatus
from tests import factories
from tests.publishing.conftest import House

MODELS = "/publish/catalog/mlmodel/"


@pytest.fixture(autouse=True)
def _a_store_of_its_own(settings: Any, tmp_path: Path) -> None:
    settings.INCOMING_DIR, settings.OBJECTS_DIR = tmp_path / "incoming", tmp_path / "objects"


def page(house: House) -> str:
    return f"{MODELS}{house.model.pk}/upload/"


def file(content: bytes = b"an artefact") -> SimpleUploadedFile:
    return SimpleUploadedFile("digits.onnx", content)


def newest(house: House) -> ModelVersion:
    return house.model.versions.order_by("-number")[0]


def problems(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return {name: list(messages) for name, messages in answer.context["form"].errors.items()}


def test_a_small_file_comes_with_the_form(house: House) -> None:
    answer = house.browser("developer").post(page(house), {"file": file(), "release_notes": "Better sevens."})
    version = newest(house)
    assert answer["Location"] == f"/publish/catalog/modelversion/{version.pk}/change/"
    assert (version.status, version.size_bytes, version.release_notes) == ("VALIDATING", 11, "Better sevens.")
    assert version.upload.status == UploadStatus.USED


def test_a_large_one_has_arrived_before(house: House) -> None:
    upload = uploads.create(factories.principal(house.openlab), size_bytes=7)
    Upload.objects.update(received_bytes=7, status=UploadStatus.COMPLETE, sha256="a" * 64)
    house.browser("owner").post(page(house), {"upload": str(upload.pk), "release_notes": ""})
    assert (newest(house).sha256, newest(house).upload) == ("a" * 64, upload)


def test_without_a_file_the_field_says_so(house: House) -> None:
    assert problems(house.browser("owner").post(page(house), {})) == {"file": ["Choose the file to upload."]}
    assert problems(house.browser("owner").post(page(house), {"file": file(b"")})) == {
        "file": ["The submitted file is empty."]
    }


def test_what_the_action_refuses_is_shown_at_the_file(house: House, settings: Any) -> None:
    settings.MAX_ARTIFACT_BYTES = 3
    before = house.model.versions.count()
    assert "at most 3 bytes" in problems(house.browser("owner").post(page(house), {"file": file()}))["file"][0]
    assert house.model.versions.count() == before


def test_bytes_that_have_arrived_are_not_asked_for_again(house: House) -> None:
    answer = house.browser("owner").post(page(house), {"upload": str(uuid4()), "release_notes": "x" * 20_001})
    assert list(problems(answer)) == ["release_notes"]
    assert "required" not in answer.context["form"].fields["file"].widget.attrs


def test_another_tenant_s_upload_answers_as_a_missing_one(house: House) -> None:
    theirs = uploads.create(factories.principal(house.otherlab), size_bytes=7)
    browser = house.browser("owner")
    answers = [problems(browser.post(page(house), {"upload": str(key)})) for key in (theirs.pk, uuid4())]
    assert answers[0] == answers[1]
    assert list(answers[0]) == ["file"]


@pytest.mark.parametrize(("who", "status"), [("other publisher", 302), ("consumer", 403), ("viewer", 403)])
def test_nobody_else_uploads(house: House, who: str, status: int) -> None:
    before = house.model.versions.count()
    assert house.browser(who).post(page(house), {"file": file()}).status_code == status
    assert house.model.versions.count() == before
    assert not Upload.objects.exists()
