import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from marketplace.embedded import postgres, sockets
from marketplace.embedded.service import Service, StartFailed

from .conftest import Kept, alive_with, until


@pytest.fixture
def service(data_dir: Path) -> Service:
    return postgres.service(data_dir / "postgres", sockets.folder_in(data_dir))


def query(service: Service, statement: str) -> object:
    assert service.address
    with psycopg.connect(service.address) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


async def test_it_answers_at_its_address_as_an_owner_without_superpowers(service: Service, kept: Kept) -> None:
    await kept.start(service)

    assert query(service, "SELECT current_database()") == "marketplace"
    assert query(service, "SELECT usesuper FROM pg_user WHERE usename = current_user") is False
    query(service, "CREATE EXTENSION pg_trgm; CREATE EXTENSION unaccent; CREATE EXTENSION btree_gin")


async def test_it_listens_on_a_socket_that_only_we_can_reach(service: Service, kept: Kept, data_dir: Path) -> None:
    await kept.start(service)

    assert query(service, "SELECT current_setting('listen_addresses')") == ""
    assert stat.S_IMODE((data_dir / "sockets").stat().st_mode) == 0o700


async def test_a_killed_one_comes_back_with_all_that_was_committed(service: Service, kept: Kept) -> None:
    (child,) = await kept.start(service)
    query(service, "CREATE TABLE fact (n int); INSERT INTO fact VALUES (42)")
    old = child.pid
    assert old

    os.kill(old, signal.SIGKILL)

    assert await kept.restarted(child, old) != old
    assert query(service, "SELECT n FROM fact") == 42
    assert "postgres was ended by SIGKILL; starting it again in 0.5 s" in kept.words.getvalue()


async def test_stopping_leaves_no_process_and_needs_no_recovery(service: Service, kept: Kept, data_dir: Path) -> None:
    await kept.start(service)
    with psycopg.connect(service.address or ""):  # a client that does not hang up
        await kept.stop()

    assert alive_with(str(data_dir)) == []
    await kept.start(service)
    assert "was not properly shut down" not in kept.words.getvalue()


async def test_the_lock_file_of_a_dead_one_is_no_obstacle_when_its_number_went_to_another_process(
    service: Service, kept: Kept, data_dir: Path
) -> None:
    (data_dir / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}/postgres\n")

    await kept.start(service)

    assert query(service, "SELECT 1") == 1


async def test_one_that_outlived_its_supervisor_is_ended_first(service: Service, kept: Kept, data_dir: Path) -> None:
    orphan = await asyncio.create_subprocess_exec(*service.argv, stderr=asyncio.subprocess.DEVNULL)
    await until(lambda: service.ready(orphan.pid))

    (child,) = await kept.start(service)

    assert await orphan.wait() == 0
    assert child.pid != orphan.pid
    assert query(service, "SELECT 1") == 1


def test_a_folder_that_was_half_made_is_made_anew(data_dir: Path) -> None:
    (data_dir / "postgres.unfinished" / "base").mkdir(parents=True)

    postgres.service(data_dir / "postgres", sockets.folder_in(data_dir))

    assert (data_dir / "postgres" / "PG_VERSION").exists()
    assert not (data_dir / "postgres.unfinished").exists()


def test_data_of_another_major_version_is_refused_and_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "PG_VERSION").write_text("13\n")

    with pytest.raises(StartFailed, match="written by PostgreSQL 13, this is PostgreSQL 18"):
        postgres.service(data_dir / "postgres", sockets.folder_in(data_dir))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("refused", ["namespaces", "root"])
def test_it_runs_where_root_may_not_make_namespaces_and_as_an_ordinary_user(
    refused: str, data_dir: Path, bare_environment: dict[str, str]
) -> None:
    """`exec` is run whole: without namespaces by an `unshare` that refuses, without root by giving root up."""
    refusing = data_dir / "unshare"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    data_dir.chmod(0o755)
    ask = "import os, psycopg; print(psycopg.connect(os.environ['DATABASE_URL']).execute('SELECT 42').fetchone()[0])"
    command = [sys.executable, "-m", "marketplace.embedded", "exec", "--", sys.executable, "-c", ask]
    # Somebody who may read our files wherever they lie, and is not root in any other way.
    capabilities = ["--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"]
    somebody = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *capabilities]

    done = subprocess.run(
        command if refused == "namespaces" else [*somebody, *command],
        env=bare_environment
        | {"PATH": f"{data_dir}:{os.environ['PATH']}", "VALKEY_URL": "elsewhere", "TRITON_URLS": "elsewhere"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert done.stdout == "42\n"
