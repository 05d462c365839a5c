"""Objects as files: kept under the hash of their bytes, whole or not at all, and checked when they are read."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from marketplace.objects.content import CorruptObject, UnexpectedContent
from marketplace.objects.folder import Folder

HELLO = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "objects")


def files(folder: Folder) -> list[Path]:
    return sorted(path.relative_to(folder.root) for path in folder.root.rglob("*") if path.is_file())


def staged(folder: Folder, tmp_path: Path, *contents: bytes) -> list[str]:
    names = [f"piece-{number}" for number, _content in enumerate(contents)]
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
        folder.stage(name, tmp_path / name)
        assert not (tmp_path / name).exists()
    return names


def test_bytes_and_files_are_kept_under_their_sha256(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"hello")

    assert folder.put(b"hello") == (HELLO, 5)
    assert folder.put(tmp_path / "upload") == (HELLO, 5)

    assert folder.get(HELLO) == b"hello"
    assert files(folder) == [Path(HELLO[:2], HELLO)]


def test_it_is_written_to_a_file_for_whoever_does_not_want_it_in_memory(folder: Folder, tmp_path: Path) -> None:
    folder.put(b"hello")
    folder.download(HELLO, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"hello"


def test_a_file_that_has_changed_is_not_given_out(folder: Folder, tmp_path: Path) -> None:
    folder.put(b"hello")
    folder.path_of(HELLO).write_bytes(b"jello")

    with pytest.raises(CorruptObject):
        folder.get(HELLO)
    with pytest.raises(CorruptObject):
        folder.download(HELLO, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()

    folder.put(b"hello")
    assert folder.get(HELLO) == b"hello"


def test_what_breaks_off_leaves_nothing(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        folder.put(tmp_path)
    names = staged(folder, tmp_path, b"hel")
    with pytest.raises(FileNotFoundError):
        folder.join([*names, "lost"])

    assert files(folder) == [Path("staged", "piece-0")]


def test_what_is_missing_is_not_found_and_a_name_is_only_ever_a_hash(folder: Folder, tmp_path: Path) -> None:
    assert not folder.exists(HELLO)
    with pytest.raises(FileNotFoundError):
        folder.get(HELLO)
    with pytest.raises(FileNotFoundError):
        folder.download(HELLO, tmp_path / "copy")
    for name in ("../" + HELLO[3:], HELLO.upper(), "staged"):
        with pytest.raises(ValueError, match="not a SHA-256"):
            folder.get(name)
    with pytest.raises(ValueError, match="not a name"):
        folder.unstage(["../objects"])


def test_what_is_staged_is_joined_in_the_order_of_the_names_and_stays_until_it_is_forgotten(
    folder: Folder, tmp_path: Path
) -> None:
    first, second = staged(folder, tmp_path, b"hel", b"lo")

    assert folder.join([first, second]) == (HELLO, 5)
    assert folder.join([second, first])[0] == hashlib.sha256(b"lohel").hexdigest()

    folder.unstage([first, second, "never"])
    with pytest.raises(FileNotFoundError):
        folder.join([first, second])


def test_what_is_not_what_it_was_said_to_be_is_not_kept(folder: Folder, tmp_path: Path) -> None:
    names = staged(folder, tmp_path, b"jello")

    with pytest.raises(UnexpectedContent) as unexpected:
        folder.join(names, sha256=HELLO)

    assert unexpected.value.found == hashlib.sha256(b"jello").hexdigest()
    assert files(folder) == [Path("staged", "piece-0")]


def test_what_was_put_just_now_is_not_deleted(folder: Folder) -> None:
    folder.put(b"hello")

    assert not folder.delete(HELLO, unused_for=timedelta(hours=1))
    assert folder.exists(HELLO)
    assert folder.delete(HELLO)
    assert not folder.exists(HELLO)
    assert not folder.delete(HELLO)
