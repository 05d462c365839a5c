"""From bytes to a version: uploads, versions of them, and artefacts that come within the request."""

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from graphql_api import multipart
from graphql_api.nodes import global_id, parse_global_id
from marketplace.access import TenantRole
from marketplace.catalog.models import ModelVersion, ModelVersionStatus
from marketplace.objects import store
from marketplace.publishing import tasks
from marketplace.publishing.models import Upload, UploadStatus
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace

pytestmark = pytest.mark.django_db

CONTENT = b"what a publisher has trained"
SHA256 = hashlib.sha256(CONTENT).hexdigest()

CREATE_UPLOAD = """
mutation ($input: CreateUploadInput!) {
  createUpload(input: $input) {
    upload { id sizeBytes receivedBytes sha256 status url expiresAt }
    errors { __typename code message path }
  }
}
"""

CREATE_VERSION = """
mutation ($input: CreateModelVersionInput!) {
  createModelVersion(input: $input) {
    modelVersion { number status sha256 sizeBytes releaseNotes }
    errors { __typename code message path }
  }
}
"""

UPLOAD = "query ($id: ID!) { node(id: $id) { ... on ArtifactUpload { status receivedBytes } } }"


@pytest.fixture(autouse=True)
def _folders(settings: Any, tmp_path: Path) -> None:
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"


class TestCreatingUploads:
    def test_says_where_the_bytes_go(self, marketplace: Marketplace, settings: Any) -> None:
        answer = marketplace.publisher.data(CREATE_UPLOAD, input={"sizeBytes": 5, "sha256": SHA256})["createUpload"]
        upload = answer["upload"]
        name, key = parse_global_id(upload["id"]) or ("", None)
        assert (name, answer["errors"]) == ("ArtifactUpload", [])
        assert (upload["sizeBytes"], upload["receivedBytes"], upload["status"]) == (5, 0, "PENDING")
        assert (upload["url"], upload["sha256"]) == (f"{settings.PUBLIC_URL}/uploads/{key}", None)
        assert marketplace.publisher.data(UPLOAD, id=upload["id"])["node"]["status"] == "PENDING"

    @pytest.mark.parametrize(
        ("wrong", "path"),
        [
            ({"sizeBytes": 0}, "input.sizeBytes"),
            ({"sizeBytes": 2**62}, "input.sizeBytes"),
            ({"sha256": "x"}, "input.sha256"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_named(self, marketplace: Marketplace, wrong: dict[str, Any], path: str) -> None:
        answer = marketplace.publisher.data(CREATE_UPLOAD, input={"sizeBytes": 5} | wrong)["createUpload"]
        (error,) = answer["errors"]
        assert (answer["upload"], error["__typename"], error["path"]) == (None, "ValidationProblem", path)


PARTS = "query ($id: ID!) { node(id: $id) { ... on ArtifactUpload { parts { number offset sizeBytes url } } } }"

COMPLETE_UPLOAD = """
mutation ($input: CompleteUploadInput!) {
  completeUpload(input: $input) { upload { status receivedBytes parts { url } } errors { code path } }
}
"""


class TestParts:
    def test_are_put_into_the_bucket_and_finished(self, marketplace: Marketplace, bucket: str, settings: Any) -> None:
        settings.OBJECT_STORE_URL = bucket
        ask = marketplace.publisher.data
        upload = ask(CREATE_UPLOAD, input={"sizeBytes": len(CONTENT)})["createUpload"]["upload"]
        (part,) = ask(PARTS, id=upload["id"])["node"]["parts"]
        assert (part["number"], part["offset"], part["sizeBytes"]) == (1, 0, len(CONTENT))

        etag = httpx.put(part["url"], content=CONTENT).headers["ETag"]
        finished = ask(COMPLETE_UPLOAD, input={"upload": upload["id"], "etags": [etag]})["completeUpload"]
        tasks.complete_upload(str(Upload.objects.get(size_bytes=len(CONTENT)).pk))

        assert finished == {
            "upload": {"status": "PENDING", "receivedBytes": len(CONTENT), "parts": []},
            "errors": [],
        }
        assert ask(UPLOAD, id=upload["id"])["node"]["status"] == "COMPLETE"
        assert store().get(SHA256) == CONTENT

    def test_are_for_those_who_publish(self, marketplace: Marketplace, bucket: str, settings: Any) -> None:
        """A URL is a permission to write."""
        settings.OBJECT_STORE_URL = bucket
        upload = marketplace.publisher.data(CREATE_UPLOAD, input={"sizeBytes": 5})["createUpload"]["upload"]
        viewer = Caller(key=factories.api_key(marketplace.openlab, TenantRole.VIEWER))
        assert viewer.data(PARTS, id=upload["id"]) == {"node": {"parts": []}}
        assert marketplace.stranger.data(PARTS, id=upload["id"]) == {"node": None}

    def test_there_are_none_where_bytes_pass_through_us(self, marketplace: Marketplace) -> None:
        upload = marketplace.publisher.data(CREATE_UPLOAD, input={"sizeBytes": 5})["createUpload"]["upload"]
        assert marketplace.publisher.data(PARTS, id=upload["id"]) == {"node": {"parts": []}}
        answer = marketplace.publisher.data(COMPLETE_UPLOAD, input={"upload": upload["id"], "etags": []})
        assert answer["completeUpload"]["errors"] == [{"code": "VALIDATION", "path": "input.upload"}]


class TestVersionsOfUploads:
    def test_are_checked_next(self, marketplace: Marketplace) -> None:
        wanted = {
            "model": "openlab/digits",
            "upload": global_id("ArtifactUpload", marketplace.upload.pk),
            "releaseNotes": "Better.",
        }
        answer = marketplace.publisher.data(CREATE_VERSION, input=wanted)["createModelVersion"]
        assert answer == {
            "modelVersion": {
                "number": 4,
                "status": "VALIDATING",
                "sha256": marketplace.upload.sha256,
                "sizeBytes": 10,
                "releaseNotes": "Better.",
            },
            "errors": [],
        }

    def test_need_a_whole_one(self, marketplace: Marketplace) -> None:
        pending = factories.upload(marketplace.openlab, status=UploadStatus.PENDING)
        wanted = {"model": "openlab/digits", "upload": global_id("ArtifactUpload", pending.pk)}
        (error,) = marketplace.publisher.data(CREATE_VERSION, input=wanted)["createModelVersion"]["errors"]
        assert (error["code"], error["path"]) == ("VALIDATION", "input.upload")
        assert "0 of 10 bytes" in error["message"]

    @pytest.mark.parametrize("upload", ["", "x", global_id("Model", "01900000-0000-7000-8000-000000000000")])  # type: ignore[arg-type]
    def test_of_something_else_are_not_found(self, marketplace: Marketplace, upload: str) -> None:
        wanted = {"model": "openlab/digits", "upload": upload}
        (error,) = marketplace.publisher.data(CREATE_VERSION, input=wanted)["createModelVersion"]["errors"]
        assert (error["code"], error["path"]) == ("NOT_FOUND", "input.upload")

    def test_are_of_one_thing(self, marketplace: Marketplace) -> None:
        (error,) = marketplace.publisher.data(CREATE_VERSION, input={"model": "openlab/digits"})["createModelVersion"][
            "errors"
        ]
        assert (error["code"], error["path"]) == ("VALIDATION", "input.artifact")


def parts(
    content: bytes = CONTENT, *, map: Any = None, operations: Any = None, name: str = "0", **changed: Any
) -> dict[str, Any]:
    """The fields of a request that makes a version of openlab/digits."""
    wanted = {"model": "openlab/digits", "artifact": None} | changed
    operations = {"query": CREATE_VERSION, "variables": {"input": wanted}} if operations is None else operations
    return {
        "operations": operations if isinstance(operations, str) else json.dumps(operations),
        "map": map if isinstance(map, str) else json.dumps({"0": ["variables.input.artifact"]} if map is None else map),
        name: SimpleUploadedFile("model.onnx", content),
    }


def send(caller: Caller, fields: dict[str, Any], **headers: str) -> Any:
    if caller.key is not None:
        headers["Authorization"] = f"Bearer {caller.key}"
    return caller.client.post("/graphql", fields, headers=headers)


@pytest.fixture
def key(marketplace: Marketplace) -> Caller:
    return Caller(key=factories.api_key(marketplace.openlab))


class TestArtifactsInTheRequest:
    def test_become_versions_at_once(self, key: Caller) -> None:
        answer = send(key, parts(releaseNotes="Small.")).json()["data"]["createModelVersion"]
        assert answer["errors"] == []
        assert (answer["modelVersion"]["sha256"], answer["modelVersion"]["sizeBytes"]) == (SHA256, len(CONTENT))
        assert store().get(SHA256) == CONTENT
        assert Upload.objects.get(sha256=SHA256).status == UploadStatus.USED

    def test_may_be_larger_than_what_is_kept_in_memory(self, key: Caller) -> None:
        content = bytes(range(256)) * 4 * 4096
        answer = send(key, parts(content)).json()["data"]["createModelVersion"]
        assert store().get(answer["modelVersion"]["sha256"]) == content

    def test_are_small(self, key: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(multipart, "MAX_BODY_BYTES", 1000)
        response = send(key, parts(b"x" * 1000))
        assert response.status_code == 413
        assert not ModelVersion.objects.filter(status=ModelVersionStatus.VALIDATING).exists()

    def test_are_within_the_tenants_limits(self, key: Caller, settings: Any) -> None:
        settings.MAX_ARTIFACT_BYTES = 5
        (error,) = send(key, parts()).json()["data"]["createModelVersion"]["errors"]
        assert (error["code"], error["path"]) == ("VALIDATION", "input.artifact")

    @pytest.mark.parametrize("model", ["openlab/nothing", "acme/digits"])
    def test_for_no_model_of_ones_own_are_not_kept(self, key: Caller, model: str) -> None:
        (error,) = send(key, parts(model=model)).json()["data"]["createModelVersion"]["errors"]
        assert (error["code"], error["path"]) == ("NOT_FOUND", "input.model")
        assert not Upload.objects.kept().filter(sha256=SHA256).exists()

    def test_come_with_no_upload_beside_them(self, marketplace: Marketplace, key: Caller) -> None:
        wanted = parts(upload=global_id("ArtifactUpload", marketplace.upload.pk))
        (error,) = send(key, wanted).json()["data"]["createModelVersion"]["errors"]
        assert (error["code"], error["path"]) == ("VALIDATION", "input.artifact")

    def test_are_nothing_that_json_has(self, key: Caller) -> None:
        for value in ("bytes", 7, {"name": "model.onnx"}, ["x"], True):
            error = key.error(CREATE_VERSION, input={"model": "openlab/digits", "artifact": value})
            assert error["extensions"]["code"] == "BAD_REQUEST"
            assert "multipart/form-data" in error["message"]

    def test_are_refused_with_a_map_or_operations_that_make_no_sense(self, key: Caller) -> None:
        senseless: list[dict[str, Any]] = [
            {"map": "{"},
            {"map": "[]"},
            {"map": {"0": []}},
            {"map": {"0": "variables.input.artifact"}},
            {"map": {"0": [7]}},
            {"map": {"0": ["variables.input.artifact"] * 2}},
            {"map": {"0": ["variables"]}},
            {"map": {"0": ["query"]}},
            {"map": {"0": ["variables.input"]}},
            {"map": {"0": ["variables.input.model"]}},
            {"map": {"0": ["variables.input.nothing"]}},
            {"map": {"0": ["variables.input.model.x"]}},
            {"map": {"0": ["extensions.input.artifact"]}},
            {"map": {"1": ["variables.input.artifact"]}},
            {"map": {str(number): ["variables.input.artifact"] for number in range(11)}},
            {"operations": "{"},
            {"operations": "[]"},
            {"operations": [{"query": CREATE_VERSION}], "map": {"0": ["0.variables.input.artifact"]}},
            {"operations": {"query": CREATE_VERSION, "variables": []}, "map": {"0": ["variables.0"]}},
            {"operations": {"query": CREATE_VERSION, "variables": [None]}, "map": {"0": ["variables.0"]}},
            {"operations": {"variables": {"x": None}}, "map": {"0": ["variables.x"]}},
            {"operations": {"variables": {"x": [None]}}, "map": {"0": ["variables.x.1"]}},
            {"operations": {"variables": {"x": [None]}}, "map": {"0": ["variables.x.-1"]}},
            {"operations": {"variables": {"x": [None]}}, "map": {"0": ["variables.x.²"]}},
        ]
        for wrong in senseless:
            response = send(key, parts(**wrong))
            assert response.status_code == 400, wrong
            assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST", wrong

    def test_go_into_lists_too(self, key: Caller) -> None:
        document = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
        operations = {"query": document, "variables": {"ids": [None]}}
        response = send(key, parts(operations=operations, map={"0": ["variables.ids.0"]}))
        assert "ids" in response.json()["errors"][0]["message"]

    @pytest.mark.parametrize("missing", ["operations", "map"])
    def test_need_both_fields(self, key: Caller, missing: str) -> None:
        fields = parts()
        del fields[missing]
        assert send(key, fields).status_code == 400

    def test_need_a_body_that_holds_together(self, key: Caller) -> None:
        bodies = (b"\r\n", b"--x", b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"\xff" * 100)
        for body, boundary in product(bodies, ("; boundary=x", "", "; boundary=" + "y" * 300)):
            response = key.post(body, content_type=f"multipart/form-data{boundary}")
            assert response.status_code == 400, (body, boundary)
            assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"

    def test_with_too_many_fields_are_refused(self, key: Caller) -> None:
        fields = parts() | {f"field-{number}": "x" for number in range(1100)}
        assert send(key, fields).status_code == 400


class TestWhoSendsArtifacts:
    def test_a_page_of_this_site_with_its_token(self, marketplace: Marketplace) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(factories.member(marketplace.openlab))
        token = "t" * 32
        client.cookies["csrftoken"] = token
        caller = Caller(client=client)

        for headers in ({}, {"X-CSRFToken": "u" * 32}, {"X-CSRFToken": token, "Origin": "https://evil.example"}):
            refused = send(caller, parts(), **headers)
            assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (403, "CSRF")
        accepted = send(caller, parts(), **{"X-CSRFToken": token})

        assert accepted.json()["data"]["createModelVersion"]["errors"] == []
        assert ModelVersion.objects.filter(sha256=SHA256).count() == 1

    def test_nobody_else(self, marketplace: Marketplace) -> None:
        viewer = Caller(key=factories.api_key(marketplace.openlab, TenantRole.VIEWER))
        consumer = Caller(key=factories.api_key(marketplace.acme))
        other = Caller(key=factories.api_key(factories.tenant(is_publisher=True)))
        for caller, code in ((viewer, "PERMISSION_DENIED"), (consumer, "PERMISSION_DENIED"), (other, "NOT_FOUND")):
            (error,) = send(caller, parts()).json()["data"]["createModelVersion"]["errors"]
            assert error["code"] == code
        (error,) = send(marketplace.anonymous, parts()).json()["errors"]
        assert error["extensions"]["code"] == "UNAUTHENTICATED"
        assert send(marketplace.revoked, parts()).status_code == 401
        assert not store().exists(SHA256) or not Upload.objects.kept().filter(sha256=SHA256).exists()
