import os
import socket
from pathlib import Path

import pytest

from marketplace.embedded import guard
from marketplace.embedded.service import StartFailed


def test_a_folder_in_use_says_by_whom_and_what_to_do(data_dir: Path) -> None:
    with guard.lock(data_dir), pytest.raises(StartFailed) as refusal:
        guard.lock(data_dir)

    assert f"in use by the `make run` of process {os.getpid()}" in str(refusal.value)
    assert f"kill {os.getpid()}" in str(refusal.value)
    assert "DATA_DIR=" in str(refusal.value)


def test_a_lock_file_that_a_dead_run_left_is_no_obstacle(data_dir: Path) -> None:
    (data_dir / "lock").write_text("1\n")

    with guard.lock(data_dir):
        assert (data_dir / "lock").read_text() == f"{os.getpid()}\n"


def test_a_port_in_use_says_by_whom_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(StartFailed) as refusal:
            guard.check_port("127.0.0.1", port, "PORT")

    assert f"Port {port} of 127.0.0.1 is taken by process {os.getpid()} " in str(refusal.value)
    assert f"make run PORT={port + 1}" in str(refusal.value)


def test_a_port_is_free_again_once_its_holder_has_closed_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

    guard.check_port("127.0.0.1", port, "PORT")


def test_an_address_that_is_not_ours_is_refused_in_words() -> None:
    with pytest.raises(StartFailed, match=r"203\.0\.113\.1"):
        guard.check_port("203.0.113.1", 8080, "PORT")
