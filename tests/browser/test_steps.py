"""A publisher puts steps around its network in the panel, and sends it a picture."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import expect

from tests.browser.conftest import PROJECT, Site, Visitor
from tests.inference import pictures
from tests.worker import working

pytestmark = pytest.mark.xdist_group("browser")

PUBLISHER = "pat@openlab.example"
SAMPLES = json.loads((Path(__file__).parents[2] / "demo/catalogue/digits/samples.json").read_text())
PATIENCE = 60_000


@pytest.fixture(scope="module", autouse=True)
def _worker(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with working(site.environment, tmp_path_factory.mktemp("worker")):
        yield


async def test_a_network_that_takes_numbers_is_made_to_take_pictures(visit: Any, site: Site) -> None:
    visitor: Visitor = await visit(PUBLISHER)
    page = visitor.page
    await visitor.open("/publish/catalog/modelversion/?q=digits")
    await page.get_by_role("link", name="Digits", exact=False).last.click()
    await page.get_by_role("link", name="Add steps").click()
    await expect(page.get_by_label("Width")).to_have_value("28")
    await expect(page.get_by_label("Colours")).to_have_value("GRAYSCALE")
    await page.get_by_role("button", name="Make a new version").click()
    await expect(page.get_by_text("The new version is being checked.")).to_be_visible()
    await expect(page.get_by_text("It is ready.")).to_be_visible(timeout=PATIENCE)
    # Other tests have put up versions too.
    made = re.findall(r"\bv\d+\b", await page.title())[0]
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "manage.py", "reconcile"], cwd=PROJECT, env=site.environment, check=True
    )

    await visitor.open("/models/openlab/digits/")
    await page.locator("#try-version").select_option(made)
    picture = pictures.digit(np.array(SAMPLES["7"], dtype=np.float32).reshape(28, 28))
    await page.get_by_label("image", exact=True).set_input_files(
        {"name": "seven.png", "mimeType": "image/png", "buffer": picture}
    )
    await expect(page.get_by_role("img", name="The picture that you chose")).to_be_visible()
    await page.get_by_role("button", name="Run").click()

    await expect(page.locator(".verdict strong").first).to_have_text("7")
