import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import alive_with

ELSEWHERE = {"VALKEY_URL": "redis://elsewhere", "TRITON_URLS": "elsewhere:8001"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "marketplace.embedded", "exec", "--", *words]


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=environment, capture_output=True, text=True, check=False)


def test_the_command_finds_servers_that_are_its_own_and_gone_afterwards(bare_environment: dict[str, str]) -> None:
    done = run(bare_environment, "sh", "-c", 'echo "$DATABASE_URL|$VALKEY_URL|$TRITON_URLS|$DATA_DIR|$SECRET_KEY"')

    database, valkey, triton, data_dir, secret = done.stdout.strip().split("|")
    assert database == f"postgresql://marketplace@/marketplace?host={data_dir}/sockets"
    assert valkey == f"unix://{data_dir}/sockets/valkey.sock"
    assert triton.startswith("127.0.0.1:")
    assert len(secret) >= 50
    assert not Path(data_dir).exists()
    assert alive_with(data_dir) == []


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_its_exit_status_is_the_command_s(script: str, status: int, bare_environment: dict[str, str]) -> None:
    assert run(bare_environment | ELSEWHERE, "sh", "-c", script).returncode == status


def test_a_command_that_does_not_exist_ends_with_127_and_leaves_nothing(bare_environment: dict[str, str]) -> None:
    done = run(bare_environment | ELSEWHERE, "no-such-command")

    assert done.returncode == 127
    assert done.stderr == "no-such-command: No such file or directory\n"


def test_servers_that_the_environment_names_are_used_as_they_are(bare_environment: dict[str, str]) -> None:
    named = ELSEWHERE | {"DATABASE_URL": "postgresql://elsewhere"}

    done = run(bare_environment | named, "sh", "-c", 'echo "$DATABASE_URL $VALKEY_URL $TRITON_URLS"; ls "$DATA_DIR"')

    assert done.stdout.splitlines()[0] == "postgresql://elsewhere redis://elsewhere elsewhere:8001"
    assert "postgres" not in done.stdout.splitlines()[1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_all_is_cleaned_up(
    number: signal.Signals, bare_environment: dict[str, str]
) -> None:
    script = "trap 'echo told; exit 3' TERM HUP; echo $DATA_DIR; while true; do read -r line || sleep 0.05; done"
    with subprocess.Popen(
        command("sh", "-c", script), env=bare_environment | ELSEWHERE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        data_dir = process.stdout.readline().strip()
        process.send_signal(number)
        assert process.stdout.read() == "told\n"

    assert process.returncode == 3
    assert not Path(data_dir).exists()
    assert alive_with(data_dir) == []


def test_a_kill_of_it_takes_its_servers_and_the_command_along(bare_environment: dict[str, str]) -> None:
    with subprocess.Popen(
        command("sh", "-c", "echo $DATA_DIR; exec sleep inf"), env=bare_environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        data_dir = process.stdout.readline().strip()
        process.kill()
        # The pipe ends with the last process that could write to it.
        assert process.stdout.read() == ""

    while alive_with(data_dir):
        pass
    shutil.rmtree(data_dir)
