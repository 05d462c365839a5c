"""`make run`, whole, on the real site: what it says, what it keeps running, and what it leaves behind."""

import json
import os
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.embedded.process import PROJECT
from marketplace.embedded.site import CONVERSION
from tests.ports import free_port

from .conftest import REPLACEMENTS, alive, alive_with

AWAY = {"ModelUnavailable", "MODEL_UNAVAILABLE"}
SERVICES = {"web", "worker", "beat", "postgres", "valkey", "triton"}
if CONVERSION.exists():
    SERVICES |= {"converter"}


class Run:
    """One `make run`, less the installing."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self.environment = {name: value for name, value in os.environ.items() if name not in REPLACEMENTS}
        self.environment |= {"DATA_DIR": str(data_dir), "PORT": str(port), "GRPC_PORT": str(free_port())}
        self.words = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "marketplace.embedded", "run"],
            env=self.environment,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        # Read all along: a full pipe would stop it.
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            for line in output:
                self.words += line
                self.lines.put(line)
        self.lines.put("")

    def read_until(self, words: str) -> None:
        """Wait for the line that holds these words."""
        while line := self.lines.get():
            if words in line:
                return
        raise AssertionError(f"it ended before it said {words!r}:\n{self.words}")

    def end(self) -> int:
        """Its exit status, once it has ended and `words` is complete."""
        self.reader.join()
        return self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.end()

    def running(self) -> dict[str, Any]:
        return dict(json.loads((self.data_dir / "run.json").read_text()))

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def invoke(self) -> dict[str, Any]:
        """The payload that the printed command gets when it is pasted into a shell."""
        (command,) = re.findall(r"curl .*", self.words)
        command = command.replace("errors { ", "errors { __typename ")
        answer = json.loads(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout)
        # Nothing can be said about the call while even who asks is unknown.
        return dict(answer["data"]["invokeModel"] if "data" in answer else answer)

    def killed_and_back(self, service: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What run.json says of a service before it is killed, and after it has come back and all is ready again."""
        before = self.running()[service]
        os.kill(before["pid"], signal.SIGKILL)
        while self.running().get(service, before)["pid"] == before["pid"] or not self.ready():
            time.sleep(0.05)
        return before, self.running()[service]


class Runs:
    """One run after the other on the same data folder, so that each but the first starts from what is kept there."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.latest: Run | None = None

    def start(self) -> Run:
        self.latest = Run(self.data_dir, self.port)
        return self.latest

    def ready(self) -> Run:
        if self.latest and self.latest.process.poll() is None:
            return self.latest
        run = self.start()
        run.read_until("ready in ")
        return run


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs(Path(tempfile.mkdtemp(prefix="embedded-")))
    yield runs
    if runs.latest:
        runs.latest.stop()
    shutil.rmtree(runs.data_dir)


@pytest.fixture
def run(runs: Runs) -> Run:
    """One that is ready."""
    return runs.ready()


def start_another(run: Run, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marketplace.embedded", "run"],
        env=run.environment | changes,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_where_it_is_who_may_sign_in_and_how_to_invoke_a_model(run: Run) -> None:
    assert f"Open http://127.0.0.1:{run.port} and sign in as" in run.words
    assert "alice@acme.example" in run.words
    assert f"curl -s http://127.0.0.1:{run.port}/graphql" in run.words


def test_its_log_names_whose_every_line_is(run: Run) -> None:
    assert all(re.match(r"[a-z_]+ *\| ", line) for line in run.words.splitlines())


def test_its_log_holds_no_password_and_no_key(run: Run) -> None:
    demo = json.loads((run.data_dir / "demo.json").read_text())
    secrets = [user["password"] for user in demo["users"]] + list(demo["apiKeys"].values())
    secrets.append((run.data_dir / "secret_key").read_text())

    assert not [secret for secret in secrets if secret in run.words]


def test_the_curl_that_it_prints_works_when_pasted(run: Run) -> None:
    payload = run.invoke()

    assert payload["errors"] == []
    assert payload["invocation"]["outputs"] == [{"name": "SUM", "data": [3.75]}]


def test_run_json_says_what_runs_and_where(run: Run) -> None:
    running = run.running()

    assert set(running) == SERVICES
    assert all(alive(facts["pid"]) for facts in running.values())
    assert running["web"]["address"] == f"http://127.0.0.1:{run.port}"
    assert set(running["triton"]) == {"pid", "address", "http", "grpc"}
    assert stat.S_IMODE((run.data_dir / "run.json").stat().st_mode) == 0o600


def test_manage_py_finds_the_running_servers_by_it(run: Run) -> None:
    status = subprocess.run(
        [sys.executable, "manage.py", "status"],
        env=run.environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout

    for service, facts in run.running().items():
        assert re.search(rf"^{service} +{facts['pid']}  {re.escape(facts['address'] or '')}", status, re.MULTILINE)


def test_a_second_one_on_the_same_folder_is_told_who_has_it(run: Run) -> None:
    refused = start_another(run)

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{run.data_dir} is in use by the `make run` of process {run.process.pid}.")
    assert "Traceback" not in refused.stderr


def test_a_second_one_on_the_same_port_is_told_who_has_it(run: Run, data_dir: Path) -> None:
    refused = start_another(run, DATA_DIR=str(data_dir))

    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Port {run.port} of 127.0.0.1 is taken by process {run.running()['web']['pid']} ")
    assert alive_with(str(data_dir)) == []


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_is_killed_comes_back_where_it_was(service: str, run: Run) -> None:
    before, after = run.killed_and_back(service)

    assert after["pid"] != before["pid"]
    assert after | {"pid": 0} == before | {"pid": 0}


@pytest.mark.parametrize("service", ["postgres", "triton", "valkey"])
def test_while_a_server_is_away_calls_are_answered_and_afterwards_they_succeed(service: str, run: Run) -> None:
    os.kill(run.running()[service]["pid"], signal.SIGKILL)

    answers = [run.invoke()]
    while answers[-1]["errors"]:
        answers.append(run.invoke())

    errors = [error for answer in answers for error in answer["errors"]]
    assert {error.get("__typename") or error["extensions"]["code"] for error in errors} <= AWAY


def test_it_stops_cleanly_and_starts_again_from_the_kept_state(run: Run, runs: Runs) -> None:
    kept = {name: (run.data_dir / name).read_text() for name in ("demo.json", "secret_key")}

    assert run.stop() == 0
    assert alive_with(str(run.data_dir)) == []
    assert not (run.data_dir / "run.json").exists()

    again = runs.ready()
    assert {name: (run.data_dir / name).read_text() for name in kept} == kept
    assert "was not properly shut down" not in again.words


def test_killed_it_takes_its_children_along_and_the_next_start_mends_what_is_left(run: Run, runs: Runs) -> None:
    left = run.running()

    run.process.kill()
    assert run.end() == -signal.SIGKILL

    runs.start().read_until("Uvicorn running")
    assert not any(alive(facts["pid"]) for facts in left.values())


def test_a_second_signal_kills_what_does_not_stop(runs: Runs) -> None:
    run = runs.ready()
    os.kill(run.running()["worker"]["pid"], signal.SIGSTOP)

    run.process.terminate()
    run.read_until("stopping")
    run.process.terminate()

    run.end()
    assert "killing everything" in run.words
    assert alive_with(str(run.data_dir)) == []


def test_a_stop_while_it_starts_leaves_nothing(data_dir: Path) -> None:
    run = Run(data_dir, free_port())
    run.read_until("postgres ")

    assert run.stop() == 0
    assert alive_with(str(data_dir)) == []
    assert not (data_dir / "run.json").exists()
