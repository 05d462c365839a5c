"""From a file to a live version and back, by the command line, on a running marketplace."""

import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marketplace.catalog.models import ModelVersion
from marketplace.publishing import releases
from marketplace.publishing.models import Upload
from tests.cli.conftest import Site
from tests.cli.stub import marketplace
from tests.inference import graphs

Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Run:
    def ran(*words: str, who: str = "owner", url: str = site.url) -> Ran:
        return marketplace(*words, url=url, cache=tmp_path / "cache", key=site.keys[who])

    return ran


def artefact(folder: Path, content: bytes) -> str:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return str(path)


def pushed(run: Run, folder: Path) -> str:
    """A READY version, as publisher/name@number."""
    ended = run("push", "openlab/digits", artefact(folder, graphs.add()), "--wait", "--json")
    assert ended.returncode == 0, ended.stderr
    return str(json.loads(ended.stdout)["version"])


def promote_ready(site: Site, version: str) -> None:
    """What the reconciler does once every Triton has it."""

    def ready() -> None:
        found = ModelVersion.objects.get(model__name="digits", number=int(version.partition("@")[2]))
        releases.promote_ready([found.pk])

    site.database.run(ready)


def status(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("status", "openlab/digits", "--json").stdout)
    return found


def test_push_waits_and_tells_each_check(run: Run, tmp_path: Path) -> None:
    ended = run("push", "openlab/digits", artefact(tmp_path, graphs.add()), "--wait", "--release-notes", "Adds.")
    assert ended.returncode == 0, ended.stderr
    assert "is READY." in ended.stdout
    assert "parse: passed" in ended.stderr
    assert "trial: passed" in ended.stderr


def test_a_rejected_one_says_why_and_what_to_change(run: Run, tmp_path: Path) -> None:
    ended = run("push", "openlab/digits", artefact(tmp_path, pickle.dumps([1, 2])), "--wait")
    assert ended.returncode == 3
    assert "format: failed" in ended.stderr
    assert "is rejected:" in ended.stderr
    assert "torch.onnx.export" in ended.stderr


def test_wait_for_a_version_that_was_pushed_before(run: Run, tmp_path: Path) -> None:
    version = json.loads(run("push", "openlab/digits", artefact(tmp_path, graphs.add()), "--json").stdout)["version"]
    ended = run("wait", version)
    assert (ended.returncode, ended.stdout) == (0, f"{version} is READY.\n")


def test_the_same_bytes_are_not_sent_twice(run: Run, site: Site, tmp_path: Path) -> None:
    first, second = pushed(run, tmp_path), pushed(run, tmp_path)
    assert first != second
    uploads = site.database.run(lambda: list(Upload.objects.order_by("-created_at")[:1].values("pk", "pieces")))
    assert uploads[0]["pieces"] is None


def test_describe_and_configure(run: Run, site: Site, tmp_path: Path) -> None:
    version = pushed(run, tmp_path)
    tensors = tmp_path / "tensors.json"
    tensors.write_text('[{"direction": "OUTPUT", "name": "SUM", "contentType": "text/plain"}]')

    told = run("describe", version, "--release-notes", "Faster.", "--tensors", str(tensors))
    assert (told.returncode, told.stdout) == (0, f"{version} is described.\n")
    set_ = json.loads(run("configure", version, "--instances", "2", "--response-cache", "--json").stdout)
    assert (set_["instanceCount"], set_["maxBatchSize"], set_["responseCache"]) == (2, 0, True)

    row = site.database.run(lambda: ModelVersion.objects.get(model__name="digits", number=version.partition("@")[2]))
    assert (row.release_notes, row.instance_count, row.response_cache) == ("Faster.", 2, True)
    assert site.database.run(lambda: row.tensors.get(name="SUM").content_type) == "text/plain"

    assert "input.instanceCount" in run("configure", version, "--instances", "99").stderr
    for words in (("describe", version), ("configure", version), ("describe", version, "--tensors", "nowhere.json")):
        assert run(*words).returncode == 2


def test_release_promote_and_roll_back(run: Run, site: Site, tmp_path: Path) -> None:
    first, second = pushed(run, tmp_path), pushed(run, tmp_path)
    assert run("release", first).stdout == f"{first} goes live once it is loaded and warm.\n"
    assert run("release", first, "--wait", "--timeout", "0").returncode == 4
    promote_ready(site, first)
    assert run("release", first, "--wait").stdout == f"{first} is live.\n"

    assert (
        run("release", second, "--canary", "10").stdout == f"{second} answers 10 % of the tenants once it is loaded.\n"
    )
    assert run("release", second, "--canary", "10", "--wait", "--timeout", "0").returncode == 4
    promote_ready(site, second)
    assert run("release", second, "--canary", "10", "--wait").stdout == f"{second} answers 10 % of the tenants.\n"
    assert status(run)["canaryPercent"] == 10
    assert "canary 10 %" in run("status", "openlab/digits").stdout
    assert run("promote", "openlab/digits").returncode == 0
    assert status(run)["liveVersion"] == {"number": int(second.partition("@")[2])}

    assert run("rollback", "openlab/digits").stdout == f"{first} is live.\n"


def test_what_the_marketplace_refuses_is_told(run: Run, site: Site) -> None:
    ended = run("promote", "openlab/digits")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no canary" in ended.stderr


@pytest.mark.parametrize("who", ["stranger", "viewer"])
def test_nobody_else_publishes(run: Run, site: Site, tmp_path: Path, who: str) -> None:
    before = site.database.run(ModelVersion.objects.count)
    for words in (
        ("push", "openlab/digits", artefact(tmp_path, graphs.add())),
        ("release", "openlab/digits@1"),
        ("rollback", "openlab/digits"),
        ("configure", "openlab/digits@1", "--instances", "2"),
        ("describe", "openlab/digits@1", "--release-notes", "Mine."),
        ("promote", "openlab/digits"),
    ):
        ended = run(*words, who=who)
        assert (ended.returncode, ended.stdout) == (1, ""), words
        assert "There is no" in ended.stderr or "Your role may not publish" in ended.stderr, ended.stderr
    assert site.database.run(ModelVersion.objects.count) == before


def test_a_version_that_does_not_exist(run: Run) -> None:
    assert run("wait", "openlab/digits@4000").returncode == 1
    assert run("wait", "openlab/nothing@1").returncode == 1
