"""A publisher's path in the panel: from a file to a live version, and a file that is refused."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from playwright.async_api import Page, Request, Route, expect

from inference.tensors import Datatype
from tests.browser.conftest import PROJECT, Site, Visitor
from tests.inference import graphs
from tests.worker import working

pytestmark = pytest.mark.xdist_group("browser")

PUBLISHER = "pat@openlab.example"
# What the page sends at a time, and a file of more than that.
PIECE = 8 * 1024 * 1024
# A check starts a worker's task and a sandbox.
PATIENCE = 60_000


@pytest.fixture(scope="module", autouse=True)
def _worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with working(site.environment, tmp_path_factory.mktemp("worker")):
        yield


def large() -> bytes:
    """12 MB of weights: two pieces."""
    weights = np.zeros((1000, 3000), np.float32)
    return graphs.model(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        [graphs.value("x", Datatype.FP32, ["n", 1000])],
        [graphs.value("y", Datatype.FP32, ["n", 3000])],
        [numpy_helper.from_array(weights, "W")],
    )


def file(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


async def add_model(visitor: Visitor, name: str) -> None:
    """And opens its page."""
    page = visitor.page
    await visitor.open("/publish/catalog/mlmodel/add/")
    await page.get_by_label("Name*").fill(name)
    await page.get_by_label("Title*").fill(name.title())
    await page.get_by_label("Summary*").fill("Adds two vectors.")
    await page.get_by_label("Licence*").fill("MIT")
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.get_by_role("table").get_by_role("link", name=name.title(), exact=True).click()
    await expect(page.get_by_text("No version is live yet.")).to_be_visible()


async def begin_upload(page: Page, path: Path) -> None:
    await page.get_by_label("Artefact").set_input_files(path)
    await page.get_by_role("button", name="Upload").click()


async def fits(page: Page) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url


def reconcile(site: Site) -> None:
    """As beat has the worker do every two seconds, but to the end."""
    subprocess.run([sys.executable, "manage.py", "reconcile"], cwd=PROJECT, env=site.environment, check=True)


@pytest.mark.parametrize("width", [390, 1280])
async def test_from_a_file_to_a_live_version(visit: Any, site: Site, tmp_path: Path, width: int) -> None:
    visitor: Visitor = await visit(PUBLISHER, width=width)
    page = visitor.page
    await add_model(visitor, f"adder-{width}")
    await fits(page)

    # The bytes wait for us, so that we see them on their way.
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        under_way.set()
        await go_on.wait()
        await route.continue_()

    await page.route("**/uploads/*", hold)
    await page.get_by_role("link", name="Upload a version").click()
    await page.get_by_label("Release notes").fill("The first one.")
    await begin_upload(page, file(tmp_path, graphs.add()))
    await under_way.wait()
    await expect(page.get_by_role("progressbar", name="Uploading model.onnx")).to_be_visible()
    await expect(page.get_by_role("button", name="Upload")).to_be_disabled()
    await fits(page)
    go_on.set()

    # The page itself shows how the checks end.
    await expect(page.get_by_text("The version is uploaded, and is being checked.")).to_be_visible()
    await expect(page.get_by_text("It is ready. Nobody but you can call it until you release it.")).to_be_visible(
        timeout=PATIENCE
    )
    await expect(page.get_by_text("A trial run", exact=True)).to_be_visible()
    await expect(page.get_by_text("Operator sets")).to_be_visible()
    await fits(page)

    await page.get_by_role("link", name="Release", exact=True).click()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_text("It is being released")).to_be_visible()
    await asyncio.to_thread(reconcile, site)
    await page.reload()
    await expect(page.get_by_text("It is live: it answers who names no version.")).to_be_visible()
    await page.get_by_role("link", name="All of Adder").click()
    await expect(page.locator(".publish-table tr").filter(has_text="Released")).to_contain_text(PUBLISHER)
    await fits(page)


async def test_a_refused_file_says_why_and_what_to_change(visit: Any, tmp_path: Path) -> None:
    visitor: Visitor = await visit(PUBLISHER, width=390)
    page = visitor.page
    await add_model(visitor, "pickled")
    await page.get_by_role("link", name="Upload a version").click()
    # By keyboard alone, once the file is chosen: the notes, then the button.
    artefact = page.get_by_label("Artefact")
    await artefact.set_input_files(file(tmp_path, pickle.dumps({"weights": [1, 2]})))
    await artefact.focus()
    await page.keyboard.press("Tab")
    await page.keyboard.type("By keyboard.")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")

    refusal = page.get_by_role("alert")
    await expect(refusal).to_contain_text("pickle", ignore_case=True, timeout=PATIENCE)
    await expect(refusal).to_contain_text("torch.onnx.export")
    await expect(page.get_by_text("By keyboard.")).to_be_visible()
    await fits(page)
    await page.get_by_role("link", name="Upload another version").click()
    await expect(page.get_by_label("Artefact")).to_be_visible()


async def test_an_upload_goes_on_after_a_cut_and_after_a_reload(visit: Any, tmp_path: Path) -> None:
    visitor: Visitor = await visit(PUBLISHER)
    page = visitor.page
    await add_model(visitor, "resumed")
    await page.get_by_role("link", name="Upload a version").click()
    path = file(tmp_path, large())
    offsets: list[str] = []
    lost = asyncio.Event()

    async def cut(route: Route, request: Request) -> None:
        """Every piece but the first."""
        if request.method == "PATCH":
            offsets.append(request.headers["upload-offset"])
        if request.method == "PATCH" and request.headers["upload-offset"] != "0":
            await route.abort("connectionreset")
            lost.set()
        else:
            await route.continue_()

    await page.route("**/uploads/*", cut)
    await begin_upload(page, path)
    await lost.wait()
    await expect(page.get_by_text("The connection is lost.")).to_be_visible()
    await page.unroute("**/uploads/*", cut)
    await page.reload()
    await expect(page.get_by_role("alert")).to_contain_text("model.onnx stopped at 8.4 MB of 12 MB.")

    page.on("request", lambda request: offsets.append(request.headers.get("upload-offset", "")))
    await begin_upload(page, path)
    await expect(page.get_by_text("The version is uploaded, and is being checked.")).to_be_visible()
    assert set(filter(None, offsets)) == {"0", str(PIECE)}
    visitor.complaints.clear()  # the browser itself writes every lost connection to the console


async def test_without_javascript_the_form_sends_the_file(visit: Any, tmp_path: Path) -> None:
    visitor: Visitor = await visit(PUBLISHER, java_script_enabled=False)
    page = visitor.page
    await visitor.open("/publish/catalog/mlmodel/")
    await page.get_by_role("table").get_by_role("link", name="Handwritten digits").click()
    await page.get_by_role("link", name="Upload a version").click()
    await begin_upload(page, file(tmp_path, graphs.add()))
    await expect(page.get_by_text("The version is uploaded, and is being checked.")).to_be_visible()
