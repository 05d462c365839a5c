"""Bytes that go to the bucket without passing through us, by URLs that allow a part each, and are hashed afterwards."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase

from marketplace.access import Principal, TenantRole
from marketplace.errors import Conflict, ModelUnavailable, NotFound, PermissionDenied, ValidationProblem
from marketplace.objects import store
from marketplace.objects.s3 import S3
from marketplace.publishing import direct, pieces, tasks, uploads
from marketplace.publishing.expiry import sweep
from marketplace.publishing.models import Upload, UploadPiece, UploadStatus
from marketplace.tenants.models import Tenant
from tests import factories

LEAST = 5 * 1024 * 1024
CONTENT = b"what a publisher has trained"
LARGE = bytes(range(256)) * (LEAST // 256) + b"and nine."
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _bucket(bucket: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.OBJECT_STORE_URL = bucket
    monkeypatch.setattr(direct, "PART_BYTES", LEAST)


@pytest.fixture
def openlab(db: None) -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def owner(openlab: Tenant) -> Principal:
    return factories.principal(openlab)


@pytest.fixture
def upload(owner: Principal) -> Upload:
    return uploads.create(owner, size_bytes=len(CONTENT), sha256=SHA256)


def put(upload: Upload, content: bytes = CONTENT) -> list[str]:
    """As a client does: the ETags."""
    etags = []
    for part in direct.parts_of(upload):
        body = content[part.offset : part.offset + part.size_bytes]
        etags.append(httpx.put(part.url, content=body, timeout=60).raise_for_status().headers["ETag"])
    return etags


def told_by(act: Any) -> list[tuple[str, str]]:
    """What the worker is told once `act` is committed."""
    told: list[tuple[str, str]] = []

    def send(task: str, *arguments: str) -> None:
        told.append((task, *arguments))

    with pytest.MonkeyPatch.context() as patch, TestCase.captureOnCommitCallbacks(execute=True):
        patch.setattr(
            "marketplace.publishing.worker._send", lambda task, *arguments, **_: told.append((task, *arguments))
        )
        act()
    return told


def keys() -> list[str]:
    chosen = store()
    assert isinstance(chosen, S3)
    return [entry["Key"] for entry in chosen._client.list_objects_v2(Bucket=chosen.bucket).get("Contents", ())]


def unfinished() -> int:
    chosen = store()
    assert isinstance(chosen, S3)
    return len(chosen._client.list_multipart_uploads(Bucket=chosen.bucket).get("Uploads", ()))


def finish(owner: Principal, upload: Upload, content: bytes = CONTENT) -> Upload:
    return direct.finish(owner, upload_id=upload.pk, etags=put(upload, content))


def test_every_byte_is_in_one_part_and_they_are_joined_in_order(
    owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = uploads.create(owner, size_bytes=len(LARGE))
    assert [part[:3] for part in direct.parts_of(upload)] == [(1, 0, LEAST), (2, LEAST, 9)]

    finish(owner, upload, LARGE)
    tasks.complete_upload(str(upload.pk))

    upload.refresh_from_db()
    assert store().get(upload.sha256) == LARGE
    monkeypatch.setattr(direct, "MAX_PARTS", 1)
    assert [part[:3] for part in direct.parts_of(uploads.create(owner, size_bytes=len(LARGE)))] == [(1, 0, len(LARGE))]


def test_what_was_put_is_hashed_by_the_worker_and_complete(owner: Principal, upload: Upload) -> None:
    etags = put(upload)
    told = told_by(lambda: direct.finish(owner, upload_id=upload.pk, etags=etags))
    assert told == [("marketplace.publishing.tasks.complete_upload", str(upload.pk))]
    upload.refresh_from_db()
    assert (upload.status, upload.received_bytes, upload.sha256) == (UploadStatus.PENDING, len(CONTENT), "")
    assert direct.parts_of(upload) == []

    tasks.complete_upload(str(upload.pk))

    upload.refresh_from_db()
    assert (upload.status, upload.sha256) == (UploadStatus.COMPLETE, SHA256)
    assert keys() == [f"artefacts/{SHA256[:2]}/{SHA256}"]
    assert store().get(SHA256) == CONTENT
    assert not UploadPiece.objects.exists()


def test_it_makes_no_version_before_it_is_hashed(owner: Principal, openlab: Tenant, upload: Upload) -> None:
    model = factories.model(openlab)
    finish(owner, upload)
    with pytest.raises(ValidationProblem, match="being hashed"):
        uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)
    tasks.complete_upload(str(upload.pk))
    assert uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref).sha256 == SHA256


def test_a_file_that_has_come_needs_none_of_it(owner: Principal, openlab: Tenant) -> None:
    model = factories.model(openlab)
    version = uploads.submit_file(owner, content=SimpleUploadedFile("model.onnx", CONTENT), model_ref=model.ref)
    assert version.sha256 == SHA256
    assert (unfinished(), keys()) == (0, [f"artefacts/{SHA256[:2]}/{SHA256}"])


def test_other_bytes_than_were_declared_end_it(owner: Principal, upload: Upload) -> None:
    finish(owner, upload, CONTENT[::-1])
    tasks.complete_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == UploadStatus.EXPIRED
    assert keys() == []


def test_a_process_that_died_before_it_said_so_is_no_loss(
    owner: Principal, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    etags = put(upload)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "advance", lambda *_arguments, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            direct.finish(owner, upload_id=upload.pk, etags=etags)
    direct.finish(owner, upload_id=upload.pk, etags=etags)
    tasks.complete_upload(str(upload.pk))
    assert store().exists(SHA256)


def test_etags_of_other_parts_are_refused(owner: Principal, upload: Upload) -> None:
    put(upload)
    for wrong in ([], [""], ["x" * 129], ["one"], ["one", "two"]):
        with pytest.raises(ValidationProblem) as problem:
            direct.finish(owner, upload_id=upload.pk, etags=wrong)
        assert problem.value.path == "input.etags"


def test_a_part_that_is_missing_is_asked_for(owner: Principal, upload: Upload) -> None:
    with pytest.raises(ValidationProblem, match="does not have these parts"):
        direct.finish(owner, upload_id=upload.pk, etags=["one"])
    finish(owner, upload)


def test_once_only(owner: Principal, upload: Upload) -> None:
    etags = put(upload)
    direct.finish(owner, upload_id=upload.pk, etags=etags)
    with pytest.raises(Conflict):
        direct.finish(owner, upload_id=upload.pk, etags=etags)


def test_bytes_that_come_to_its_url_are_as_good(owner: Principal, upload: Upload, tmp_path: Path) -> None:
    etags = put(upload)
    (tmp_path / "sent").write_bytes(CONTENT)
    pieces.complete(pieces.keep(upload, pieces.begin(upload), tmp_path / "sent"))
    with pytest.raises(Conflict):
        direct.finish(owner, upload_id=upload.pk, etags=etags)
    sweep()
    assert (unfinished(), keys()) == (0, [f"artefacts/{SHA256[:2]}/{SHA256}"])


@pytest.mark.parametrize("end", ["cancelled", "expired"])
@pytest.mark.parametrize("finished", [False, True], ids=["in parts", "together"])
def test_what_came_goes_with_it(owner: Principal, upload: Upload, end: str, finished: bool) -> None:
    if finished:
        finish(owner, upload)
    else:
        put(upload)
    if end == "cancelled":
        uploads.cancel(owner, upload_id=upload.pk)
    else:
        Upload.objects.update(expires_at=upload.expires_at - Upload.lifetime() - timedelta(hours=1))
        sweep()
    assert (unfinished(), keys(), UploadPiece.objects.count()) == (0, [], 0)


def test_a_store_that_is_out_of_reach_begins_nothing(owner: Principal, settings: Any) -> None:
    settings.OBJECT_STORE_URL = "s3://nowhere?endpoint_url=http://127.0.0.1:9&region=none"
    with pytest.raises(ModelUnavailable):
        uploads.create(owner, size_bytes=5)
    assert not Upload.objects.exists()


def test_a_folder_has_no_parts(owner: Principal, upload: Upload, settings: Any) -> None:
    settings.OBJECT_STORE_URL = ""
    assert direct.parts_of(upload) == []
    with pytest.raises(ValidationProblem, match="has no parts"):
        direct.finish(owner, upload_id=uploads.create(owner, size_bytes=5).pk, etags=["one"])


def test_only_whoever_publishes_for_its_tenant_finishes_it(openlab: Tenant, upload: Upload) -> None:
    for principal, error in (
        (factories.principal(factories.tenant(is_publisher=True)), NotFound),
        (factories.principal(openlab, TenantRole.VIEWER), PermissionDenied),
    ):
        with pytest.raises(error):
            direct.finish(principal, upload_id=upload.pk, etags=["one", "two"])
