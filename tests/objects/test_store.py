"""Either store: objects are kept under the hash of their bytes, whole or not at all, and checked when they are read."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from marketplace.objects import ObjectStore, store
from marketplace.objects.content import CorruptObject, StoreOutOfReach, UnexpectedContent
from marketplace.objects.folder import Folder
from marketplace.objects.s3 import S3

HELLO = hashlib.sha256(b"hello").hexdigest()


class Kept:
    """A store, and what is in it as its keeper sees it: by path below its root."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def files(self) -> list[str]:
        match self.store:
            case Folder(root=root):
                return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
            case S3():
                listed = self.store._client.list_objects_v2(Bucket=self.store.bucket, Prefix="artefacts/")
                return sorted(entry["Key"].removeprefix("artefacts/") for entry in listed.get("Contents", ()))
        raise AssertionError

    def change(self, path: str, content: bytes) -> None:
        match self.store:
            case Folder(root=root):
                (root / path).write_bytes(content)
            case S3():
                self.store._client.put_object(Bucket=self.store.bucket, Key=f"artefacts/{path}", Body=content)


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Kept:
    settings.OBJECTS_DIR = tmp_path / "objects"
    settings.OBJECT_STORE_URL = request.getfixturevalue("bucket") if request.param == "s3" else ""
    return Kept(store())


def staged(kept: Kept, tmp_path: Path, *contents: bytes) -> list[str]:
    names = [f"piece-{number}" for number, _content in enumerate(contents)]
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
        kept.store.stage(name, tmp_path / name)
        assert not (tmp_path / name).exists()
    return names


def test_bytes_and_files_are_kept_under_their_sha256(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"hello")

    assert kept.store.put(b"hello") == (HELLO, 5)
    assert kept.store.put(tmp_path / "upload") == (HELLO, 5)

    assert kept.store.get(HELLO) == b"hello"
    assert kept.files() == [f"{HELLO[:2]}/{HELLO}"]


def test_an_object_is_written_to_a_file_for_whoever_does_not_want_it_in_memory(kept: Kept, tmp_path: Path) -> None:
    kept.store.put(b"hello")
    kept.store.download(HELLO, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"hello"


def test_one_that_has_changed_is_not_given_out(kept: Kept, tmp_path: Path) -> None:
    kept.store.put(b"hello")
    kept.change(f"{HELLO[:2]}/{HELLO}", b"jello")

    with pytest.raises(CorruptObject):
        kept.store.get(HELLO)
    with pytest.raises(CorruptObject):
        kept.store.download(HELLO, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()

    kept.store.put(b"hello")
    assert kept.store.get(HELLO) == b"hello"


def test_what_breaks_off_leaves_nothing(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        kept.store.put(tmp_path)
    names = staged(kept, tmp_path, b"hel")
    with pytest.raises(FileNotFoundError):
        kept.store.join([*names, "lost"])

    assert kept.files() == ["staged/piece-0"]


def test_what_is_missing_is_not_found_and_a_name_is_only_ever_a_hash(kept: Kept, tmp_path: Path) -> None:
    assert not kept.store.exists(HELLO)
    with pytest.raises(FileNotFoundError):
        kept.store.get(HELLO)
    with pytest.raises(FileNotFoundError):
        kept.store.download(HELLO, tmp_path / "copy")
    with pytest.raises(FileNotFoundError):
        kept.store.join(["never"])
    for name in ("../" + HELLO[3:], HELLO.upper(), "staged"):
        with pytest.raises(ValueError, match="not a SHA-256"):
            kept.store.get(name)
    with pytest.raises(ValueError, match="not a name"):
        kept.store.unstage(["../objects"])


def test_what_is_staged_is_joined_in_the_order_of_the_names_and_stays_until_it_is_forgotten(
    kept: Kept, tmp_path: Path
) -> None:
    first, second = staged(kept, tmp_path, b"hel", b"lo")

    assert kept.store.join([first, second]) == (HELLO, 5)
    assert kept.store.join([second, first])[0] == hashlib.sha256(b"lohel").hexdigest()
    assert kept.store.join([first]) == (hashlib.sha256(b"hel").hexdigest(), 3)
    assert kept.store.get(HELLO) == b"hello"

    kept.store.unstage([first, second, "never"])
    assert not [name for name in kept.files() if name.startswith("staged")]
    with pytest.raises(FileNotFoundError):
        kept.store.join([first, second])


@pytest.mark.parametrize("contents", [[b"jello"], [b"jel", b"lo"]], ids=["one", "several"])
def test_what_is_not_what_it_was_said_to_be_is_not_kept(kept: Kept, tmp_path: Path, contents: list[bytes]) -> None:
    names = staged(kept, tmp_path, *contents)

    with pytest.raises(UnexpectedContent) as unexpected:
        kept.store.join(names, sha256=HELLO)

    assert unexpected.value.found == hashlib.sha256(b"jello").hexdigest()
    assert kept.files() == [f"staged/{name}" for name in names]


def test_what_was_put_just_now_is_not_deleted(kept: Kept) -> None:
    kept.store.put(b"hello")

    assert not kept.store.delete(HELLO, unused_for=timedelta(hours=1))
    assert kept.store.exists(HELLO)
    assert kept.store.delete(HELLO)
    assert not kept.store.exists(HELLO)
    assert not kept.store.delete(HELLO)


class TestS3:
    @pytest.fixture
    def s3(self, bucket: str) -> S3:
        return S3(bucket)

    def test_out_of_reach_is_an_error_of_its_own(self, s3: S3, bucket: str) -> None:
        for url in (bucket.replace("bucket-", "nothing-"), "s3://bucket?endpoint_url=http://127.0.0.1:9&region=x"):
            with pytest.raises(StoreOutOfReach):
                S3(url).put(b"hello")
            with pytest.raises(StoreOutOfReach):
                S3(url).begin_parts("name")

    def test_what_changes_while_it_is_read_is_not_kept(
        self, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (name,) = staged(Kept(s3), tmp_path, b"hello")
        read = s3._read

        def and_then_changes(key: str) -> Any:
            answer = read(key)
            Kept(s3).change(f"staged/{name}", b"jello")
            return answer

        monkeypatch.setattr(s3, "_read", and_then_changes)
        with pytest.raises(StoreOutOfReach):
            s3.join([name])
        assert not s3.exists(HELLO)

    def test_the_urls_of_parts_name_the_bucket_as_it_is_reached(self, s3: S3, bucket: str) -> None:
        url = s3.part_url("name", s3.begin_parts("name"), number=1, size_bytes=5, seconds=60)
        assert f"/{s3.bucket}/artefacts/staged/name?" in url
        assert "content-length" in urlsplit(url).query
        assert "secret" not in url
