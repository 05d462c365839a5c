"""docs/publishing.md is true: its commands run as printed, its exit codes and options are the command's own."""

import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name

import pytest

from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus
from marketplace.embedded.process import PROJECT
from marketplace.publishing import releases
from tests.cli.conftest import Site
from tests.cli.stub import marketplace
from tests.inference import graphs

GUIDE = (PROJECT / "docs/publishing.md").read_text()
INSTALL, PIPELINE, BACK, ONE_CALL, UPLOAD = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(site: Site, tmp_path: Path) -> dict[str, str]:
    """An environment in which `marketplace` is installed, and a folder with digits.onnx."""
    command = tmp_path / "bin/marketplace"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m marketplace_cli "$@"\n')
    command.chmod(0o755)
    (tmp_path / "digits.onnx").write_bytes(graphs.add())
    return {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT / "cli"),
        "XDG_CACHE_HOME": str(tmp_path),
        "MARKETPLACE_URL": site.url,
        "MARKETPLACE_API_KEY": site.keys["owner"],
        "GIT_DIR": str(PROJECT / ".git"),
    }


def run(commands: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@contextmanager
def promoting(site: Site) -> Iterator[None]:
    """As the reconciler does once every Triton has what is being released."""
    ended = threading.Event()

    def promote() -> None:
        while not ended.wait(0.2):
            site.database.run(
                lambda: releases.promote_ready(MLModel.objects.values_list("releasing_version", flat=True))
            )

    thread = threading.Thread(target=promote)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def live(site: Site) -> ModelVersion:
    return site.database.run(lambda: ModelVersion.objects.get(status=ModelVersionStatus.LIVE, model__name="digits"))


def test_a_pipeline_and_the_way_back(site: Site, shell: dict[str, str], tmp_path: Path) -> None:
    with promoting(site):
        run(PIPELINE, shell, tmp_path)
        before = live(site)
        assert run(PIPELINE, shell, tmp_path) == f"openlab/digits@{before.number + 1} is live.\n"
        assert run(BACK, shell, tmp_path) == f"openlab/digits@{before.number} is live.\n"


def test_curl_alone(site: Site, shell: dict[str, str], tmp_path: Path) -> None:
    assert '"errors": []' in run(ONE_CALL, shell, tmp_path).replace('"errors":[]', '"errors": []')
    with promoting(site):
        said = run(UPLOAD, shell, tmp_path)
    assert "READY" in said
    assert "trial" in said
    assert said.count("errors") == said.replace(" ", "").count('"errors":[]')


def test_what_is_installed_is_what_the_guide_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert INSTALL == "pip install ./cli\n"
    told = tomllib.loads((PROJECT / "cli/pyproject.toml").read_text())
    packages = {path.parent.name for path in (PROJECT / "cli").glob("*/__init__.py")}
    assert set(told["tool"]["setuptools"]["packages"]) == packages
    assert (PROJECT / "cli" / told["project"]["readme"]).is_file()
    monkeypatch.syspath_prepend(str(PROJECT / "cli"))
    assert {name: callable(resolve_name(place)) for name, place in told["project"]["scripts"].items()} == {
        "marketplace": True
    }


def test_its_exit_codes_are_those_of_the_command(site: Site, tmp_path: Path) -> None:
    told = marketplace("--help", url=site.url, cache=tmp_path).stdout
    assert re.findall(r"^\| (\d) \|", GUIDE, re.MULTILINE) == sorted(re.findall(r"(?<=  )(\d)  ", told))


def test_its_commands_and_options_exist(site: Site, tmp_path: Path) -> None:
    commands = dict(re.findall(r"^\| `(\w+) PUBLISHER[^`]*` \| (.*) \|$", GUIDE, re.MULTILINE))
    told = marketplace("--help", url=site.url, cache=tmp_path).stdout
    assert set(commands) == set(re.findall(r"^    (\w+)", told, re.MULTILINE))
    for command, words in commands.items():
        options = re.findall(r"--[a-z-]+", words)
        offered = marketplace(command, "--help", url=site.url, cache=tmp_path).stdout
        assert [option for option in options if option not in offered] == []
