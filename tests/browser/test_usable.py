"""Every page, wide and narrow, light and dark: fits, reads, and is named for those who do not see it (WCAG 2.2 AA)."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visitor

pytestmark = pytest.mark.xdist_group("browser")

FLAWS = (Path(__file__).parent / "flaws.js").read_text(encoding="utf-8")

PUBLIC = [
    "/",
    "/?q=qwertzuiop",
    "/?tag=text",
    "/models/openlab/digits/",
    "/models/openlab/tumour/",
    "/models/openlab/smollm2/",
    "/publishers/openlab/",
]
ENTRANCE = ["/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/accounts/password/reset/done/"]
INSIDE = ["/usage/", "/keys/", "/become-a-publisher/", "/accounts/password/change/", "/accounts/logout/"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_every_page_is_usable(visit: Any, width: int, scheme: str) -> None:
    stranger: Visitor = await visit(width=width, color_scheme=scheme)
    member: Visitor = await visit("alice@acme.example", width=width, color_scheme=scheme)
    flaws: dict[str, list[str]] = {}

    for visitor, paths in ((stranger, PUBLIC + ENTRANCE), (member, PUBLIC + INSIDE)):
        for path in paths:
            await visitor.open(path)
            for details in await visitor.page.locator("details > summary:visible").all():
                await details.evaluate("summary => { summary.parentElement.open = true }")
            flaws[path] = await visitor.page.evaluate(FLAWS)

    assert {path: found for path, found in flaws.items() if found} == {}


async def test_an_answer_is_usable(visit: Any) -> None:
    visitor: Visitor = await visit("alice@acme.example", width=390)
    for model in ("digits", "minilm", "tumour", "add"):
        await visitor.open(f"/models/openlab/{model}/")
        await visitor.page.get_by_role("button", name="Use the sample").click()
        await visitor.page.get_by_role("button", name="Run").click()
        await visitor.page.locator(".facts-line").wait_for()
        assert await visitor.page.evaluate(FLAWS) == []
    await visitor.open("/models/openlab/smollm2/")
    await visitor.page.get_by_role("button", name="Write").click()
    await visitor.page.locator(".facts-line").wait_for()
    assert await visitor.page.evaluate(FLAWS) == []


async def test_keys_open_what_a_narrow_console_keeps_in_its_menu(visit: Any) -> None:
    visitor: Visitor = await visit("pat@openlab.example", width=390)
    await visitor.open("/publish/subscriptions/plan/")
    versions = visitor.page.get_by_role("link", name="Versions", exact=True)
    await expect(versions).to_be_hidden()
    await visitor.page.get_by_role("button", name="Menu").focus()
    await visitor.page.keyboard.press("Enter")
    await expect(versions).to_be_visible()


async def test_a_console_needs_no_scripts(visit: Any) -> None:
    visitor: Visitor = await visit("admin@marketplace.example", width=390, java_script_enabled=False)
    await visitor.open("/admin/catalog/mlmodel/")
    for name in ("Ledger entries", "Handwritten digits"):
        await expect(visitor.page.get_by_role("link", name=name, exact=True)).to_be_visible()


async def test_a_missing_page_is_usable(visit: Any) -> None:
    visitor: Visitor = await visit(width=390)
    await visitor.open("/nothing")
    assert await visitor.page.evaluate(FLAWS) == []
    visitor.complaints.clear()  # the browser itself writes every 404 to the console


async def test_graphiql_works_under_the_policy(visit: Any) -> None:
    visitor: Visitor = await visit("alice@acme.example")
    await visitor.open("/graphql")
    await visitor.page.get_by_text("Prettify").or_(visitor.page.locator(".graphiql-container")).first.wait_for()
