"""What the README says is so: its sample runs as printed, its targets, files and settings exist."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.config.environment import Environment
from tests.browser.conftest import PROJECT, Site

README = (PROJECT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.django_db(transaction=True)
def test_the_first_invocation_runs_as_printed(site: Site, tmp_path: Path) -> None:
    sample, *_others = blocks("python")
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data/demo.json").write_text(json.dumps({"url": site.url, "apiKeys": site.api_keys}))

    printed = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", sample],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert ast.literal_eval(printed) == {
        "invocation": {"outputs": [{"name": "SUM", "data": [3.75]}], "units": "1"},
        "errors": [],
    }


@pytest.mark.django_db(transaction=True)
def test_the_samples_for_other_clients_run_as_printed(site: Site) -> None:
    _first, *samples = blocks("python")

    printed = [
        subprocess.run(
            [sys.executable, "-c", sample.replace("localhost:8080", site.url.removeprefix("http://"))],
            env={**os.environ, "MARKETPLACE_API_KEY": site.api_keys["acme"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for sample in samples
    ]

    assert [output.split() for output in printed] == [["[3.75]"], ["384", "13"]]


def test_its_commands_are_targets_of_make() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)

    assert commands == ["make run", "make test"]
    assert {command.removeprefix("make ") for command in commands} <= set(targets)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)]+)\)|^\| `([a-z_]+/)`", README, re.MULTILINE))
def test_what_it_points_to_is_there(path: tuple[str, str]) -> None:
    assert (PROJECT / "".join(path)).exists()


def test_its_settings_are_read() -> None:
    (table,) = re.findall(r"^\| variable .*?\n\n", README, re.MULTILINE | re.DOTALL)
    named = {name for row in table.split() for name in re.findall(r"^`([A-Z_]+)`,?$", row)}

    assert named <= {name.upper() for name in Environment.model_fields}
    assert {"DATABASE_URL", "VALKEY_URL", "TRITON_URLS"} <= named
