"""Uploads: room within the tenant's limits, what was uploaded before, used once, and forgotten in the end."""

import hashlib
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus
from marketplace.errors import (
    Conflict,
    MarketplaceError,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    ValidationProblem,
)
from marketplace.objects import store
from marketplace.publishing import pieces, uploads
from marketplace.publishing.expiry import SETTLING, UNUSED_FOR, sweep
from marketplace.publishing.models import Upload, UploadPiece, UploadStatus
from marketplace.tenants.models import Tenant
from tests import factories

CONTENT = b"what a publisher has trained"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"
    return tmp_path


@pytest.fixture
def openlab(db: None) -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def owner(openlab: Tenant) -> Principal:
    return factories.principal(openlab)


@pytest.fixture
def model(openlab: Tenant) -> MLModel:
    return factories.model(openlab, "digits")


@pytest.fixture
def stranger(db: None) -> Principal:
    return factories.principal(factories.tenant(is_publisher=True))


def create(principal: Principal, *, sha256: str | None = None, size: int = len(CONTENT)) -> Upload:
    return uploads.create(principal, size_bytes=size, sha256=sha256)


def send(upload: Upload, content: bytes, folder: Path) -> Upload:
    (folder / "sent").write_bytes(content)
    return pieces.keep(upload, pieces.begin(upload), folder / "sent")


def uploaded(principal: Principal, folder: Path, content: bytes = CONTENT) -> Upload:
    return pieces.complete(send(create(principal, size=len(content)), content, folder))


def status(upload: Upload) -> str:
    upload.refresh_from_db()
    return upload.status


def later(by: timedelta, *rows: Upload) -> None:
    """As if the uploads, and what is in the store, were older by that."""
    for row in rows or tuple(Upload.objects.all()):
        Upload.objects.filter(pk=row.pk).update(expires_at=row.expires_at - by)
        row.refresh_from_db()


class TestCreating:
    def test_is_pending_and_has_a_url(self, owner: Principal, settings: Any) -> None:
        upload = create(owner, sha256=SHA256)
        assert (upload.status, upload.received_bytes, upload.sha256) == (UploadStatus.PENDING, 0, "")
        assert upload.url == f"{settings.PUBLIC_URL}/uploads/{upload.pk}"
        assert upload.expires_at > timezone.now() + timedelta(hours=settings.UPLOAD_EXPIRES_HOURS - 1)

    @pytest.mark.parametrize(
        ("wrong", "path"),
        [
            ({"size_bytes": 0}, "input.sizeBytes"),
            ({"size_bytes": -1}, "input.sizeBytes"),
            ({"sha256": SHA256.upper()}, "input.sha256"),
            ({"sha256": ""}, "input.sha256"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_named(self, owner: Principal, wrong: dict[str, Any], path: str) -> None:
        with pytest.raises(ValidationProblem) as problem:
            uploads.create(owner, **{"size_bytes": 5} | wrong)
        assert problem.value.path == path

    def test_only_publishers_create(self, openlab: Tenant) -> None:
        for principal in (
            factories.principal(openlab, TenantRole.BILLING),
            factories.principal(factories.tenant(), TenantRole.OWNER),
        ):
            with pytest.raises(PermissionDenied):
                create(principal)


class TestLimits:
    def test_of_one_artefact(self, owner: Principal, settings: Any) -> None:
        settings.MAX_ARTIFACT_BYTES = 10
        create(owner, size=10)
        with pytest.raises(PayloadTooLarge, match="raise MAX_ARTIFACT_BYTES") as problem:
            create(owner, size=11)
        assert problem.value.path == "input.sizeBytes"

    def test_of_uploads_open_at_a_time(self, owner: Principal, stranger: Principal, settings: Any) -> None:
        settings.MAX_OPEN_UPLOADS = 1
        first = create(owner)
        with pytest.raises(ValidationProblem, match="1 uploads open"):
            create(owner)
        create(stranger)

        uploads.cancel(owner, upload_id=first.pk)
        create(owner)

    def test_of_all_that_a_tenant_keeps_and_sends(
        self, owner: Principal, stranger: Principal, folder: Path, settings: Any
    ) -> None:
        settings.MAX_TENANT_ARTIFACT_BYTES = 30
        kept = uploaded(owner, folder, b"x" * 10)
        create(owner, size=15)

        with pytest.raises(ValidationProblem, match="keeps 25 bytes of artefacts, and may keep 30") as problem:
            create(owner, size=6)

        assert problem.value.path == "input.sizeBytes"
        create(owner, size=5)
        create(stranger, size=30)
        assert create(owner, size=10, sha256=kept.sha256).status == UploadStatus.COMPLETE

    def test_what_the_checks_made_of_an_upload(self, owner: Principal, model: MLModel, settings: Any) -> None:
        settings.MAX_TENANT_ARTIFACT_BYTES = 30
        made = factories.version(model, status="READY", size_bytes=20, source_sha256=SHA256)
        factories.version(model, status="READY", size_bytes=20, source_sha256=SHA256, sha256=made.sha256)
        factories.version(model, status="RETIRED", size_bytes=20, source_sha256=SHA256)

        with pytest.raises(ValidationProblem, match="keeps 20 bytes of artefacts"):
            create(owner, size=11)

        create(owner, size=10)

    def test_the_same_bytes_count_once(self, owner: Principal, folder: Path, settings: Any) -> None:
        settings.MAX_TENANT_ARTIFACT_BYTES = 30
        for _ in range(2):
            uploaded(owner, folder, b"x" * 10)
        create(owner, size=20)

    @pytest.mark.django_db(transaction=True)
    def test_hold_for_uploads_that_are_created_at_once(self, owner: Principal, settings: Any) -> None:
        settings.MAX_OPEN_UPLOADS = 2
        start = threading.Barrier(6)

        def run() -> None:
            try:
                connection.ensure_connection()
                start.wait()
                create(owner)
            except ValidationProblem:
                pass
            finally:
                connection.close()

        threads = [threading.Thread(target=run) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Upload.objects.count() == 2


class TestWhatWasUploadedBefore:
    def test_by_the_same_tenant_needs_no_bytes(self, owner: Principal, folder: Path) -> None:
        uploaded(owner, folder)
        again = create(owner, sha256=SHA256)
        assert (again.status, again.received_bytes, again.sha256) == (UploadStatus.COMPLETE, len(CONTENT), SHA256)

    def test_and_used_since_needs_none_either(self, owner: Principal, model: MLModel, folder: Path) -> None:
        uploads.submit(owner, upload_id=uploaded(owner, folder).pk, model_ref=model.ref)
        assert create(owner, sha256=SHA256).status == UploadStatus.COMPLETE

    def test_by_somebody_else_is_not_had_by_its_hash(self, owner: Principal, stranger: Principal, folder: Path) -> None:
        uploaded(owner, folder)
        assert create(stranger, sha256=SHA256).status == UploadStatus.PENDING

    def test_by_somebody_else_is_kept_once(self, owner: Principal, stranger: Principal, folder: Path) -> None:
        assert uploaded(owner, folder).sha256 == uploaded(stranger, folder).sha256 == SHA256
        assert [path.name for path in folder.rglob("*") if path.is_file()] == [SHA256]

    @pytest.mark.parametrize("gone", ["expired", "lost", "another size", "only begun"])
    def test_and_is_not_there_any_more_is_sent_again(self, owner: Principal, folder: Path, gone: str) -> None:
        if gone == "only begun":
            create(owner, sha256=SHA256)
        else:
            before = uploaded(owner, folder)
            if gone == "expired":
                uploads.cancel(owner, upload_id=before.pk)
            if gone == "lost":
                store().delete(SHA256)
        size = 5 if gone == "another size" else len(CONTENT)
        assert create(owner, sha256=SHA256, size=size).status == UploadStatus.PENDING


class TestPieces:
    def test_are_joined_in_order_and_forgotten(self, owner: Principal, folder: Path) -> None:
        upload = create(owner)
        for part in (CONTENT[:5], CONTENT[5:6], CONTENT[6:]):
            upload = send(upload, part, folder)
        assert pieces.complete(upload).sha256 == SHA256
        assert not UploadPiece.objects.exists()

    def test_of_somebody_who_was_overtaken_are_a_conflict(self, owner: Principal, folder: Path) -> None:
        """Also when the other one is just where the first would have been."""
        ours = create(owner)
        theirs = Upload.objects.get(pk=ours.pk)
        ours = send(ours, CONTENT[:5], folder)
        with pytest.raises(Conflict):
            send(theirs, CONTENT[:5], folder)
        theirs = send(Upload.objects.get(pk=ours.pk), CONTENT[5:], folder)
        with pytest.raises(Conflict):
            send(ours, b"X", folder)
        assert pieces.complete(theirs).sha256 == SHA256

    def test_of_before_a_restart_do_not_come_behind_it(self, owner: Principal, folder: Path) -> None:
        late = send(create(owner), b"12345", folder)
        pieces.restart(Upload.objects.get(pk=late.pk))
        anew = send(Upload.objects.get(pk=late.pk), CONTENT[:5], folder)
        with pytest.raises(Conflict):
            send(late, b"6789", folder)
        assert pieces.complete(send(anew, CONTENT[5:], folder)).sha256 == SHA256

    def test_whoever_completes_what_somebody_has_completed_sees_it(self, owner: Principal, folder: Path) -> None:
        whole = send(create(owner), CONTENT, folder)
        other = Upload.objects.get(pk=whole.pk)
        pieces.complete(whole)
        assert pieces.complete(other).status == UploadStatus.COMPLETE

    def test_that_end_meanwhile_leave_no_object(
        self, owner: Principal, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = send(create(owner), CONTENT, folder)
        join = type(store()).join

        def cancelled_meanwhile(*arguments: Any, **options: Any) -> Any:
            joined = join(*arguments, **options)
            uploads.cancel(owner, upload_id=whole.pk)
            return joined

        monkeypatch.setattr(type(store()), "join", cancelled_meanwhile)
        assert pieces.complete(whole).status == UploadStatus.EXPIRED
        assert not store().exists(SHA256)


class TestUsing:
    def test_makes_a_version_that_is_checked(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = uploaded(owner, folder)
        version = uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref, release_notes="Better.")
        assert (version.status, version.sha256, version.size_bytes, version.release_notes) == (
            ModelVersionStatus.VALIDATING,
            SHA256,
            len(CONTENT),
            "Better.",
        )
        assert (status(upload), upload.version) == (UploadStatus.USED, version)

    def test_twice_is_refused(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = uploaded(owner, folder)
        uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)
        with pytest.raises(ValidationProblem, match="A version has been made") as problem:
            uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)
        assert problem.value.path == "input.upload"
        assert ModelVersion.objects.count() == 1

    def test_before_it_is_whole_says_how_much_is_missing(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = send(create(owner), CONTENT[:5], folder)
        with pytest.raises(ValidationProblem, match=f"5 of {len(CONTENT)} bytes"):
            uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)

    def test_completes_what_a_dead_process_left_whole(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = send(create(owner), CONTENT, folder)
        assert uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref).sha256 == SHA256

    @pytest.mark.parametrize("wrong", [{"model_ref": "openlab/nothing"}, {"release_notes": "n" * 20_001}], ids=str)
    def test_leaves_it_usable_when_there_is_no_version(
        self, owner: Principal, model: MLModel, folder: Path, wrong: dict[str, str]
    ) -> None:
        upload = uploaded(owner, folder)
        with pytest.raises(MarketplaceError):
            uploads.submit(owner, upload_id=upload.pk, **{"model_ref": model.ref} | wrong)
        assert status(upload) == UploadStatus.COMPLETE

    def test_one_that_is_cancelled_is_refused(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = uploaded(owner, folder)
        uploads.cancel(owner, upload_id=upload.pk)
        with pytest.raises(ValidationProblem, match="has expired"):
            uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)

    def test_one_that_is_used_is_not_cancelled(self, owner: Principal, model: MLModel, folder: Path) -> None:
        upload = uploaded(owner, folder)
        uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)
        with pytest.raises(Conflict):
            uploads.cancel(owner, upload_id=upload.pk)


ACTIONS: dict[str, Callable[[Principal, Upload], Any]] = {
    "submit": lambda principal, upload: uploads.submit(principal, upload_id=upload.pk, model_ref="openlab/digits"),
    "cancel": lambda principal, upload: uploads.cancel(principal, upload_id=upload.pk),
    "look": lambda principal, upload: uploads.own_upload(principal, upload.pk),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_another_tenants_upload_is_missing(
    stranger: Principal, owner: Principal, model: MLModel, folder: Path, action: str
) -> None:
    upload = uploaded(owner, folder)
    with pytest.raises(NotFound):
        ACTIONS[action](stranger, upload)
    assert status(upload) == UploadStatus.COMPLETE


@pytest.mark.parametrize("action", ACTIONS)
def test_billing_may_not(openlab: Tenant, owner: Principal, model: MLModel, folder: Path, action: str) -> None:
    upload = uploaded(owner, folder)
    with pytest.raises(PermissionDenied):
        ACTIONS[action](factories.principal(openlab, TenantRole.BILLING), upload)
    assert status(upload) == UploadStatus.COMPLETE


class TestSweeping:
    def age_the_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise what was put within the hour stays."""
        monkeypatch.setattr("marketplace.publishing.expiry.UNUSED_FOR", timedelta(0))

    def test_what_is_given_up_expires_and_its_bytes_go(self, owner: Principal, folder: Path) -> None:
        upload = send(create(owner), CONTENT[:5], folder)
        sweep()
        assert status(upload) == UploadStatus.PENDING

        later(Upload.lifetime(), upload)
        sweep()

        assert status(upload) == UploadStatus.EXPIRED
        assert not [path for path in folder.rglob("*") if path.is_file()]

    def test_bytes_that_come_put_it_off(self, owner: Principal, folder: Path) -> None:
        upload = create(owner)
        later(Upload.lifetime(), upload)
        upload = send(upload, CONTENT[:5], folder)
        sweep()
        assert status(upload) == UploadStatus.PENDING

    def test_what_nobody_used_is_deleted_in_the_end(
        self, owner: Principal, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.age_the_store(monkeypatch)
        upload = uploaded(owner, folder)
        later(Upload.lifetime(), upload)
        sweep()
        assert (status(upload), store().exists(SHA256)) == (UploadStatus.EXPIRED, True)

        later(Upload.lifetime(), upload)
        sweep()

        assert not Upload.objects.exists()
        assert not store().exists(SHA256)

    def test_what_was_put_just_now_stays(self, owner: Principal, folder: Path) -> None:
        assert timedelta(minutes=5) < UNUSED_FOR
        upload = uploaded(owner, folder)
        for _ in range(2):
            later(Upload.lifetime(), upload)
            sweep()
            upload = Upload.objects.first() or upload
        assert not Upload.objects.exists()
        assert store().exists(SHA256)

    @pytest.mark.parametrize("needed_by", ["upload", "version", "source of a version"])
    def test_what_somebody_else_needs_stays(
        self, owner: Principal, model: MLModel, folder: Path, monkeypatch: pytest.MonkeyPatch, needed_by: str
    ) -> None:
        self.age_the_store(monkeypatch)
        upload = uploaded(owner, folder)
        if needed_by == "upload":
            create(owner, sha256=SHA256)
        elif needed_by == "version":
            factories.version(model, sha256=SHA256)
        else:
            factories.version(model, source_sha256=SHA256)
        for _ in range(2):
            later(Upload.lifetime(), upload)
            sweep()
            upload = Upload.objects.filter(pk=upload.pk).first() or upload
        assert not Upload.objects.filter(pk=upload.pk).exists()
        assert store().exists(SHA256)

    @pytest.mark.parametrize("ended", [ModelVersionStatus.REJECTED, ModelVersionStatus.RETIRED])
    def test_a_versions_artefact_stays_until_it_has_ended_for_a_while(
        self, owner: Principal, model: MLModel, folder: Path, monkeypatch: pytest.MonkeyPatch, ended: str
    ) -> None:
        self.age_the_store(monkeypatch)
        upload = uploaded(owner, folder)
        version = uploads.submit(owner, upload_id=upload.pk, model_ref=model.ref)
        later(2 * Upload.lifetime(), upload)
        sweep()
        assert status(upload) == UploadStatus.USED

        converted = store().put(b"converted")[0]
        ModelVersion.objects.filter(pk=version.pk).update(status=ended, sha256=converted, source_sha256=SHA256)
        sweep()
        assert status(upload) == UploadStatus.USED

        for expected in (UploadStatus.EXPIRED, None):
            later(Upload.lifetime(), upload)
            sweep()
            assert Upload.objects.filter(pk=upload.pk).values_list("status", flat=True).first() == expected
        assert not store().exists(SHA256)
        assert not store().exists(converted)

    def test_what_a_dead_process_left_whole_is_completed(self, owner: Principal, folder: Path) -> None:
        upload = send(create(owner), CONTENT, folder)
        sweep()
        assert status(upload) == UploadStatus.PENDING
        later(SETTLING, upload)
        sweep()
        assert (status(upload), upload.sha256) == (UploadStatus.COMPLETE, SHA256)

    def test_pieces_and_files_that_a_dead_process_left_go(self, owner: Principal, folder: Path, settings: Any) -> None:
        upload = uploaded(owner, folder)
        piece = pieces.begin(upload)
        (folder / "left").write_bytes(b"staged, and then nothing")
        store().stage(str(piece.pk), folder / "left")
        settings.INCOMING_DIR.mkdir()
        (settings.INCOMING_DIR / "new").touch()
        settings.UPLOAD_EXPIRES_HOURS = 0.0
        sweep()
        assert not UploadPiece.objects.exists()
        assert [path.name for path in folder.rglob("*") if path.is_file()] == [SHA256]
