import stat
from pathlib import Path

from marketplace.embedded import sockets


def deep(data_dir: Path) -> Path:
    folder = data_dir / ("deep" * 20)
    folder.mkdir()
    return folder


def test_sockets_lie_beside_the_data_where_nobody_else_gets_in(data_dir: Path) -> None:
    folder = sockets.folder_in(data_dir)

    assert folder == data_dir / "sockets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_is_replaced_by_a_private_temporary_folder(data_dir: Path) -> None:
    folder = sockets.folder_in(deep(data_dir))

    assert len(f"{folder}/.s.PGSQL.5432") <= sockets.LONGEST_PATH
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.rmdir()


def test_the_temporary_folder_is_found_again_by_the_next_run(data_dir: Path) -> None:
    inside = deep(data_dir)
    folder = sockets.folder_in(inside)

    assert sockets.folder_in(inside) == folder
    folder.rmdir()


def test_a_temporary_folder_that_others_may_enter_is_not_trusted_again(data_dir: Path) -> None:
    inside = deep(data_dir)
    folder = sockets.folder_in(inside)
    folder.chmod(0o777)

    fresh = sockets.folder_in(inside)

    assert fresh != folder
    folder.rmdir()
    fresh.rmdir()
