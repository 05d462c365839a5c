"""Bytes of uploads over HTTP: tus 1.0 and PUT, cuts and resumption, two at once, who may, and who is given up."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import Client

from marketplace.access import TenantRole
from marketplace.objects import store
from marketplace.publishing import pieces, receiving, uploads
from marketplace.publishing.models import Upload, UploadPiece, UploadStatus
from marketplace.tenants.models import Tenant
from tests import factories
from tests.publishing.tus import Sender

pytestmark = pytest.mark.django_db(transaction=True)

CONTENT = b"what a publisher has trained"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TOKEN = "t" * 32


@pytest.fixture(autouse=True)
def _folders(settings: Any, tmp_path: Path) -> None:
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "PIECE_BYTES", 8)
    monkeypatch.setattr(receiving, "WRITE_BYTES", 4)


@pytest.fixture
def openlab() -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def upload(openlab: Tenant) -> Upload:
    return uploads.create(factories.principal(openlab), size_bytes=len(CONTENT), sha256=SHA256)


@pytest.fixture
def sender(openlab: Tenant) -> Sender:
    return keyed(openlab)


def keyed(tenant: Tenant, role: TenantRole = TenantRole.DEVELOPER) -> Sender:
    return Sender({"authorization": f"Bearer {factories.api_key(tenant, role)}"})


async def known(upload: Upload) -> Upload:
    return await Upload.objects.aget(pk=upload.pk)


async def is_whole(upload: Upload) -> bool:
    row = await known(upload)
    assert (row.status, row.sha256, row.received_bytes) == (UploadStatus.COMPLETE, SHA256, len(CONTENT))
    assert store().get(SHA256) == CONTENT
    return not await UploadPiece.objects.aexists() and no_files_but([SHA256])


def no_files_but(names: list[str]) -> bool:
    found = [path.name for path in django_settings.OBJECTS_DIR.parent.rglob("*") if path.is_file()]
    assert found == names
    return True


class TestPatch:
    async def test_bytes_arrive_and_are_kept_under_their_hash(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.patch(upload, 0, CONTENT[:10], CONTENT[10:])

        assert answered is not None
        assert (answered.status, answered.offset) == (204, len(CONTENT))
        assert "content-length" not in answered.headers
        assert answered.headers["tus-resumable"] == "1.0.0"
        assert await is_whole(upload)

    @pytest.mark.usefixtures("small_pieces")
    async def test_what_came_before_a_cut_counts(self, sender: Sender, upload: Upload) -> None:
        assert await sender.patch(upload, 0, CONTENT[:5], CONTENT[5:13], None) is None
        assert await sender.offset(upload) == 13
        assert await sender.patch(upload, 13, CONTENT[13:15], None) is None
        assert await sender.offset(upload) == 15

        await sender.patch(upload, 15, CONTENT[15:])

        assert await is_whole(upload)

    @pytest.mark.usefixtures("small_pieces")
    async def test_what_came_before_the_server_ended_counts(self, sender: Sender, upload: Upload) -> None:
        request = sender.patching(upload, 0, CONTENT[:11], ends=False)
        under_way = asyncio.ensure_future(request.answered())
        await request.handled()
        request.coming.put_nowait(CONTENT[11:13])
        await request.handled()

        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way

        assert await sender.offset(upload) == 13

    @pytest.mark.usefixtures("small_pieces")
    async def test_of_two_at_once_one_goes_on_and_the_other_hears_so(self, sender: Sender, upload: Upload) -> None:
        ours, theirs = (sender.patching(upload, 0, ends=False) for _ in range(2))
        first, second = (asyncio.ensure_future(request.answered()) for request in (ours, theirs))
        theirs.coming.put_nowait(b"X" * 7)
        ours.coming.put_nowait(CONTENT[:8])
        await asyncio.gather(ours.handled(), theirs.handled())

        theirs.ends = True
        theirs.coming.put_nowait(b"X")
        refused = await second
        ours.ends = True
        ours.coming.put_nowait(CONTENT[8:])
        accepted = await first

        assert refused is not None
        assert accepted is not None
        assert (refused.status, accepted.status) == (409, 204)
        assert await is_whole(upload)

    @pytest.mark.usefixtures("small_pieces")
    async def test_whoever_resumes_does_not_wait_for_a_connection_that_hangs(
        self, sender: Sender, upload: Upload
    ) -> None:
        hanging = sender.patching(upload, 0, CONTENT[:8], ends=False)
        under_way = asyncio.ensure_future(hanging.answered())
        await hanging.handled()

        resumed = await sender.patch(upload, 8, CONTENT[8:20], None)
        hanging.ends = True
        hanging.coming.put_nowait(b"X" * 8)
        late = await under_way

        assert resumed is None
        assert late is not None
        assert late.status == 409
        assert await sender.offset(upload) == 20
        await sender.patch(upload, 20, CONTENT[20:])
        assert await is_whole(upload)

    async def test_another_offset_is_a_conflict_and_the_right_one_is_told(self, sender: Sender, upload: Upload) -> None:
        await sender.patch(upload, 0, CONTENT[:5], None)
        for offset in (0, 4, 6, len(CONTENT)):
            answered = await sender.ask(
                "PATCH", upload, b"x", upload_offset=str(offset), content_type="application/offset+octet-stream"
            )
            assert (answered.status, answered.offset) == (409, 5)

    async def test_more_than_was_declared_is_refused(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.patch(upload, 0, CONTENT[:20], CONTENT)
        assert answered is not None
        assert answered.status == 413
        assert await sender.offset(upload) == 20

    async def test_other_bytes_than_were_declared_are_forgotten(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.patch(upload, 0, b"X" * len(CONTENT))
        assert answered is not None
        assert (answered.status, "not the declared one" in answered.error) == (400, True)
        assert await sender.offset(upload) == 0
        assert no_files_but([])

        await sender.patch(upload, 0, CONTENT)
        assert await is_whole(upload)

    async def test_nothing_at_the_end_completes_what_a_dead_process_left_whole(
        self, sender: Sender, upload: Upload, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(pieces, "complete", lambda upload: upload)
            await sender.patch(upload, 0, CONTENT)
        assert (await known(upload)).status == UploadStatus.PENDING

        answered = await sender.patch(upload, len(CONTENT))

        assert answered is not None
        assert answered.status == 204
        assert await is_whole(upload)

    async def test_a_wrong_header_is_refused(self, sender: Sender, upload: Upload) -> None:
        wrong = [
            ({"content_type": "application/octet-stream"}, 415),
            ({"upload_offset": "-1"}, 400),
            ({"upload_offset": "1e3"}, 400),
            ({"upload_offset": "9" * 19}, 400),
            ({"tus_resumable": "0.2.2"}, 412),
            ({"content_length": str(len(CONTENT) + 1)}, 413),
        ]
        for headers, status in wrong:
            answered = await sender.patch(upload, 0, CONTENT, **headers)
            assert (answered and answered.status) == status, headers
        assert await sender.offset(upload) == 0

    async def test_an_offset_is_not_guessed(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.ask("PATCH", upload, CONTENT, content_type="application/offset+octet-stream")
        assert (answered.status, "Upload-Offset is missing" in answered.error) == (400, True)

    async def test_where_only_post_comes_through_the_method_is_a_header(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.ask(
            "POST",
            upload,
            CONTENT,
            x_http_method_override="PATCH",
            upload_offset="0",
            content_type="application/offset+octet-stream",
        )
        assert answered.status == 204
        assert await is_whole(upload)

    async def test_whoever_sends_too_slowly_is_given_up_and_what_came_counts(
        self, sender: Sender, upload: Upload, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "PACE_SECONDS", 0.05)
        request = sender.patching(upload, 0, CONTENT[:5], ends=False)
        under_way = asyncio.ensure_future(request.answered())
        await request.handled()
        request.ends = True
        answered = await under_way
        assert answered is not None
        assert answered.status == 408
        assert await sender.offset(upload) == 5

    async def test_whoever_keeps_the_pace_may_take_their_time(
        self, sender: Sender, upload: Upload, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paced = receiving._paced
        monkeypatch.setattr(receiving, "PACE_BYTES", 5)
        given: list[float] = []

        class Timeout:
            def __init__(self, seconds: float) -> None:
                given.append(seconds)

            async def __aenter__(self) -> None: ...

            async def __aexit__(self, *_error: object) -> None: ...

        monkeypatch.setattr(receiving.asyncio, "timeout", Timeout)
        parts = iter([b"12", b"34", b"567", b"8"])

        async def receive() -> dict[str, Any]:
            return {"body": next(parts)}

        read = paced(receive)
        for _part in range(4):
            await read()

        assert given[0] == given[3] == receiving.PACE_SECONDS
        assert receiving.PACE_SECONDS > given[1] > given[2]

    async def test_a_byte_at_a_time_has_an_end(
        self, sender: Sender, upload: Upload, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pieces, "MAX_PIECES", 2)
        for offset in range(2):
            await sender.patch(upload, offset, CONTENT[offset : offset + 1])
        answered = await sender.patch(upload, 2, CONTENT[2:3])
        assert answered is not None
        assert (answered.status, "came in 2 pieces" in answered.error) == (400, True)

    async def test_a_tenant_has_only_so_many_under_way(self, sender: Sender, upload: Upload, settings: Any) -> None:
        settings.MAX_OPEN_UPLOADS = 1
        hanging = [sender.patching(upload, 0, CONTENT[:1], ends=False) for _ in range(2)]
        under_way = [asyncio.ensure_future(request.answered()) for request in hanging]
        await asyncio.gather(*(request.handled() for request in hanging))

        refused = await sender.patch(upload, 0, CONTENT)

        assert refused is not None
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        for request in hanging:
            request.coming.put_nowait(None)
        await asyncio.gather(*under_way)


class TestPut:
    async def test_the_whole_body_is_the_artefact(self, sender: Sender, upload: Upload) -> None:
        answered = await sender.ask("PUT", upload, CONTENT[:9], CONTENT[9:])
        assert answered.status == 200
        assert await is_whole(upload)

    async def test_once_more_begins_anew(self, sender: Sender, upload: Upload) -> None:
        assert await sender.request("PUT", upload, b"XXX", None).answered() is None
        assert await sender.offset(upload) == 3

        assert (await sender.ask("PUT", upload, CONTENT)).status == 200
        assert await is_whole(upload)

    async def test_the_rest_of_it_is_sent_with_its_range(self, sender: Sender, upload: Upload) -> None:
        await sender.request("PUT", upload, CONTENT[:5], None).answered()
        rest = f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"

        assert (await sender.ask("PUT", upload, CONTENT[5:], content_range=rest)).status == 200
        assert await is_whole(upload)

    async def test_what_does_not_fit_is_refused_before_it_is_read(self, sender: Sender, upload: Upload) -> None:
        wrong = [
            ({"content_range": "bytes 1-27/28"}, 409),
            ({"content_range": "bytes 0-27/29"}, 400),
            ({"content_range": "bytes 5-4/28"}, 400),
            ({"content_range": "items 0-27/28"}, 400),
            ({"content_length": "29"}, 400),
            ({"content_length": "5", "content_range": "bytes 0-27/28"}, 400),
        ]
        for headers, status in wrong:
            assert (await sender.ask("PUT", upload, CONTENT, **headers)).status == status, headers
        assert await sender.offset(upload) == 0

    async def test_one_that_is_complete_is_not_begun_anew(self, sender: Sender, upload: Upload) -> None:
        await sender.ask("PUT", upload, CONTENT)
        assert (await sender.ask("PUT", upload, CONTENT)).status == 409
        assert await is_whole(upload)


class TestIntoABucket:
    @pytest.mark.usefixtures("small_pieces")
    async def test_bytes_pass_through_us_and_what_came_before_a_cut_counts(
        self, bucket: str, openlab: Tenant, settings: Any
    ) -> None:
        settings.OBJECT_STORE_URL = bucket
        sender = await sync_to_async(keyed)(openlab)
        principal = await sync_to_async(factories.principal)(openlab)
        upload = await sync_to_async(uploads.create)(principal, size_bytes=len(CONTENT), sha256=SHA256)

        await sender.patch(upload, 0, CONTENT[:13], None)
        assert await sender.offset(upload) == 13
        answered = await sender.patch(upload, 13, CONTENT[13:])

        assert answered is not None
        assert (answered.status, (await known(upload)).status) == (204, UploadStatus.COMPLETE)
        assert await sync_to_async(lambda: store().get(SHA256))() == CONTENT

    async def test_a_store_that_is_out_of_reach_says_try_again(
        self, sender: Sender, upload: Upload, settings: Any
    ) -> None:
        settings.OBJECT_STORE_URL = "s3://nowhere?endpoint_url=http://127.0.0.1:9&region=none"
        answered = await sender.patch(upload, 0, CONTENT)
        assert answered is not None
        assert (answered.status, answered.headers["retry-after"]) == (503, "1")
        assert await sender.offset(upload) == 0


class TestTheRest:
    async def test_head_tells_how_far_it_is(self, sender: Sender, upload: Upload) -> None:
        await sender.patch(upload, 0, CONTENT[:7], None)
        answered = await sender.ask("HEAD", upload)
        assert (answered.status, answered.offset, answered.content) == (200, 7, b"")
        assert answered.headers["upload-length"] == str(len(CONTENT))
        assert answered.headers["cache-control"] == "no-store"
        assert answered.headers["upload-expires"].endswith("GMT")

    async def test_options_tells_what_is_spoken_to_anybody(self, upload: Upload, settings: Any) -> None:
        answered = await Sender().ask("OPTIONS", "/uploads")
        assert answered.status == 204
        assert answered.headers["tus-version"] == "1.0.0"
        assert answered.headers["tus-extension"] == "expiration,termination"
        assert answered.headers["tus-max-size"] == str(settings.MAX_ARTIFACT_BYTES)
        assert not [name for name in answered.headers if name.startswith("access-control")]

    async def test_a_deleted_one_is_gone(self, sender: Sender, upload: Upload) -> None:
        await sender.patch(upload, 0, CONTENT[:7], None)
        assert (await sender.ask("DELETE", upload)).status == 204
        assert no_files_but([])
        for method in ("HEAD", "PATCH", "PUT"):
            assert (await sender.ask(method, upload)).status == 410

    async def test_one_that_a_version_uses_is_not_deleted(self, sender: Sender, openlab: Tenant) -> None:
        used = await sync_to_async(factories.upload)(openlab, status=UploadStatus.USED)
        assert (await sender.ask("DELETE", used)).status == 409

    async def test_other_methods_are_not_allowed(self, sender: Sender, upload: Upload) -> None:
        for method in ("GET", "POST"):
            answered = await sender.ask(method, upload)
            assert (answered.status, answered.headers["allow"]) == (405, "OPTIONS, HEAD, PATCH, PUT, DELETE")

    async def test_any_other_path_is_not_found(self, sender: Sender) -> None:
        for path in ("/uploads", "/uploads/", "/uploads/x", "/uploads/../uploads"):
            assert (await sender.ask("PATCH", path, CONTENT)).status == 404


class TestAccess:
    async def test_only_whoever_publishes_for_its_tenant(self, openlab: Tenant, upload: Upload) -> None:
        def everybody() -> dict[str, tuple[Sender, int]]:
            return {
                "viewer": (keyed(openlab, TenantRole.VIEWER), 403),
                "other publisher": (keyed(factories.tenant(is_publisher=True), TenantRole.OWNER), 404),
                "consumer": (keyed(factories.tenant(), TenantRole.OWNER), 404),
                "anonymous": (Sender(), 401),
                "another scheme": (Sender({"authorization": "Basic b3c="}), 401),
                "no such key": (Sender({"authorization": "Bearer mk_x"}), 401),
            }

        for who, (sender, status) in (await sync_to_async(everybody)()).items():
            sent = await sender.patch(upload, 0, CONTENT[:5])
            assert (sent and sent.status) == status, who
            for method in ("PUT", "HEAD", "DELETE"):
                assert (await sender.ask(method, upload)).status == status, who
        row = await known(upload)
        assert (row.status, row.received_bytes) == (UploadStatus.PENDING, 0)

    async def test_another_tenants_answers_exactly_as_a_missing_one(self, upload: Upload) -> None:
        stranger = await sync_to_async(lambda: keyed(factories.tenant(is_publisher=True)))()
        foreign = await stranger.ask("HEAD", upload)
        assert foreign == await stranger.ask("HEAD", "/uploads/01900000-0000-7000-8000-000000000000")

    async def test_a_session_needs_its_csrf_token(self, openlab: Tenant, upload: Upload) -> None:
        def signed_in() -> str:
            client = Client()
            client.force_login(factories.member(openlab))
            return str(client.cookies[django_settings.SESSION_COOKIE_NAME].value)

        cookie = f"sessionid={await sync_to_async(signed_in)()}; csrftoken={TOKEN}"
        page = Sender({"cookie": cookie, "host": "testserver"})
        forged: list[dict[str, str]] = [
            {},
            {"x_csrftoken": "u" * 32},
            {"x_csrftoken": TOKEN, "origin": "https://evil.example"},
        ]
        for headers in forged:
            refused = await page.patch(upload, 0, CONTENT, **headers)
            assert (refused and refused.status) == 403, headers
            assert (await page.ask("DELETE", upload, **headers)).status == 403, headers
        assert await page.offset(upload) == 0

        await page.patch(upload, 0, CONTENT[:5], x_csrftoken=TOKEN)
        await page.patch(upload, 5, CONTENT[5:], x_csrftoken=TOKEN, origin="http://testserver")
        assert await is_whole(upload)
