"""Each model's playground: the widget fits the signature, the answer is drawn, the pasted code answers the same."""

import asyncio
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from playwright._impl._driver import compute_driver_executable
from playwright.async_api import expect

from tests.browser.conftest import Site, Visitor

pytestmark = pytest.mark.xdist_group("browser")

ALICE = "alice@acme.example"
SAMPLES = json.loads((Path(__file__).parents[2] / "demo/catalogue/digits/samples.json").read_text())


TRITON = ("graphql-curl", "graphql-python", "graphql-javascript", "rest-curl", "rest-python", "grpc-python")
OPENAI = ("openai-curl", "openai-python")
# What only a whole answer of a model that writes has in it.
WRITTEN = {"rest-curl": "text_output", "rest-python": "text_output", "openai-curl": r"\[DONE\]"}


def png(ink: list[float], scale: int, paper: int = 255) -> bytes:
    """28 x 28 grey values, magnified, dark on light paper. Source: PNG, ISO/IEC 15948."""
    rows = []
    for y in range(28):
        line = bytes(round(abs(paper - 255 * value)) for value in ink[28 * y : 28 * y + 28] for _ in range(scale))
        rows += [b"\0" + line] * scale

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 28 * scale, 28 * scale, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


async def test_a_picture_of_each_digit_is_read(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/digits/")

    for digit, ink in SAMPLES.items():
        # Every other one is light on dark, as on a blackboard.
        picture = png(ink, scale=9, paper=255 if int(digit) % 2 else 0)
        await page.get_by_label("Upload a picture").set_input_files(
            {"name": f"{digit}.png", "mimeType": "image/png", "buffer": picture}
        )
        await expect(page.get_by_label("Upload a picture")).to_have_value("")
        async with page.expect_response("**/graphql"):
            await page.get_by_role("button", name="Run").click()
        await expect(page.locator(".verdict strong")).to_have_text(digit)


async def test_the_other_version_answers_when_chosen(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/digits/")

    await page.locator("#try-version").select_option("v2")
    await page.get_by_role("button", name="Use the sample").click()
    await page.get_by_role("button", name="Run").click()

    await expect(page.locator("#try-result")).to_contain_text("version 2")
    await expect(page.locator(".verdict strong")).to_have_text("7")


async def test_an_empty_sheet_and_a_file_that_is_no_picture(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/digits/")

    await page.get_by_role("button", name="Run").click()
    await expect(page.locator("#try-result")).to_contain_text("The sheet is empty")
    await page.get_by_label("Upload a picture").set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    await expect(page.get_by_text("This file is not a picture that the browser can read.")).to_be_visible()


async def test_lines_of_text_are_a_batch(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/sentiment/")

    await page.get_by_label("text", exact=True).fill("What a wonderful day!\n\nThis is the worst film ever made.")
    await page.get_by_role("button", name="Run").click()

    await expect(page.locator(".verdict strong")).to_have_text(["positive", "negative"])
    await expect(page.locator(".row-title")).to_have_text(
        ["What a wonderful day!", "This is the worst film ever made."]
    )


async def test_sentences_are_compared(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/minilm/")

    await page.get_by_label("text", exact=True).fill(
        "A dog runs through the park.\nA puppy is running in a garden.\nThe central bank raised interest rates."
    )
    await page.get_by_role("button", name="Run").click()

    await expect(page.locator("#try-result")).to_contain_text("384 dimensions, norm 1")
    cells = await page.locator(".similarity tbody td").all_text_contents()
    near, far = float(cells[1]), float(cells[2])
    assert near > far + 0.2


async def test_a_row_of_a_table(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/tumour/")

    await page.get_by_role("button", name="Run").click()
    await expect(page.locator(".verdict strong")).to_have_text("malignant")
    for name, value in (("worst area", "500"), ("worst radius", "11"), ("mean radius", "10"), ("area error", "15")):
        await page.get_by_label(name, exact=True).fill(value)
    await page.get_by_label("worst perimeter").fill("70")
    async with page.expect_response("**/graphql"):
        await page.get_by_role("button", name="Run").click()
    await expect(page.locator(".verdict strong")).to_have_text("benign")


async def test_json_and_what_is_wrong_with_it(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/add/")
    result = page.locator("#try-result")

    await page.get_by_role("button", name="Run").click()
    await expect(result.locator("pre")).to_have_text("[3.75]")
    await page.get_by_label("A", exact=True).fill("[1, 2")
    await page.get_by_role("button", name="Run").click()
    await expect(result).to_contain_text("This is not JSON")
    await page.get_by_label("A", exact=True).fill('["one"]')
    await page.get_by_role("button", name="Run").click()
    await expect(result.get_by_role("alert")).to_contain_text("Expected a number")


async def test_a_visitor_is_asked_to_sign_in(visit: Any) -> None:
    visitor: Visitor = await visit()
    await visitor.open("/models/openlab/add/")

    await visitor.page.get_by_role("link", name="Sign in to run it").click()

    await expect(visitor.page).to_have_url(re.compile(r"/accounts/login/\?next=/models/openlab/add/"))


async def test_a_session_that_ended_is_said(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/models/openlab/add/")
    await visitor.context.clear_cookies()

    await page.get_by_role("button", name="Run").click()

    await expect(page.locator("#try-result")).to_contain_text("Your session has ended")


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("add", "3.75"),
        ("sentiment", "scores"),
        ("tumour", "probability"),
        ("digits", "scores"),
        ("minilm", "embedding|384"),
        ("smollm2", ""),
    ],
)
async def test_pasted_code_runs(visit: Any, site: Site, tmp_path: Path, model: str, answer: str) -> None:
    visitor: Visitor = await visit(java_script_enabled=False)
    await visitor.open(f"/models/openlab/{model}/")
    printed = await visitor.page.locator("code[id^=code-]").evaluate_all("all => all.map(({ id }) => id.slice(5))")

    for slug in printed:
        code = await visitor.page.locator(f"#code-{slug}").text_content() or ""
        told = await asyncio.to_thread(run, code, slug, tmp_path, site.api_keys["acme"])
        assert re.search(answer or WRITTEN.get(slug, r"\S"), told), (slug, told)
        assert "latencyMs" in told or not slug.startswith("graphql"), told
    assert set(printed) == set(TRITON + (OPENAI if model in ("minilm", "smollm2") else ())), "and none besides"


def run(code: str, slug: str, folder: Path, key: str) -> str:
    """What the pasted code prints, within a minute."""
    language = slug.rpartition("-")[2]
    if language == "javascript":
        # Playwright brings one.
        node, _driver = compute_driver_executable()
        (folder / "call.mjs").write_text(code)
        command = [node, "call.mjs"]
    elif language == "python":
        (folder / "call.py").write_text(code)
        command = [sys.executable, "call.py"]
    else:
        command = ["sh", "-c", code.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)]
    environment = os.environ | {"MARKETPLACE_API_KEY": key}
    return subprocess.check_output(
        command, cwd=folder, env=environment, text=True, stderr=subprocess.STDOUT, timeout=60
    )
