"""From the front door to the last unit of a quota, as people go."""

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Visitor

pytestmark = pytest.mark.xdist_group("browser")

SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.6, 0.5), (0.45, 0.85)]
# As the page itself would ask, many times over.
SPEND = """async (times) => {
  const form = document.getElementById("try-form");
  for (let i = 0; i < times; i += 1) {
    await fetch("/graphql", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
      body: JSON.stringify({
        query: "mutation ($input: InvokeModelInput!) { invokeModel(input: $input) { errors { message } } }",
        variables: { input: { model: "openlab/digits", inputs: [
          { name: "image", datatype: "FP32", shape: [1, 1, 28, 28], data: Array(784).fill(0) }] } },
      }),
    });
  }
}"""


async def draw(page: Page, corners: list[tuple[float, float]]) -> None:
    """With the mouse, corner to corner; each is a share of the sheet's width and height."""
    sheet = page.locator("canvas.sheet")
    await sheet.scroll_into_view_if_needed()
    box = await sheet.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    await page.mouse.move(*places[0])
    await page.mouse.down()
    for place in places[1:]:
        await page.mouse.move(*place, steps=15)
    await page.mouse.up()


async def test_search_subscribe_draw_run_out_and_cancel(visit: Any) -> None:
    visitor: Visitor = await visit("carol@globex.example")
    page = visitor.page

    # Search, misspelt; results come as one types.
    await page.get_by_role("searchbox", name="Search models").press_sequentially("handwritng digts")
    await expect(page).to_have_url(re.compile(r"q=handwritng%20digts"))
    await expect(page.locator("#count")).to_contain_text("1 model")
    await page.get_by_role("link", name="Handwritten digits").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Handwritten digits")

    # Without a subscription: told so, and where the plans are.
    await draw(page, SEVEN)
    await page.get_by_role("button", name="Run").click()
    result = page.locator("#try-result")
    await expect(result).to_contain_text("no active subscription")
    await expect(result.get_by_role("link", name="Choose a plan")).to_be_visible()

    await page.get_by_role("button", name="Subscribe to Trial").click()
    await expect(page.get_by_role("status")).to_contain_text("Subscribed.")
    await expect(page.locator('[data-amount="remaining"]')).to_have_text("50")

    # A seven is a seven, and costs one unit of fifty.
    await draw(page, SEVEN)
    await page.get_by_role("button", name="Run").click()
    await expect(result.locator(".verdict strong")).to_have_text("7")
    await expect(result).to_contain_text("1 unit charged · version 1 · 49 units left")
    await expect(page.locator('[data-amount="settled"]')).to_have_text("1")

    # The quota runs out, and the page says when it starts anew.
    await page.evaluate(SPEND, 49)
    await page.get_by_role("button", name="Run").click()
    await expect(result.get_by_role("alert")).to_contain_text(
        re.compile(r"It starts anew on \w+ \d+, \d{4} at \d+:\d\d")
    )
    await visitor.open("/usage/")
    usage = page.get_by_role("listitem").filter(has_text="openlab/digits")
    await expect(usage.locator('[data-amount="settled"]')).to_have_text("50")
    await expect(usage.locator('[data-amount="remaining"]')).to_have_text("0")

    await usage.get_by_text("Cancel subscription").click()
    await usage.get_by_role("button", name="Cancel now").click()
    await expect(page.get_by_role("status")).to_contain_text("Cancelled.")
    await visitor.open("/models/openlab/digits/")
    await expect(page.get_by_role("button", name="Subscribe to Trial")).to_be_visible()


async def test_signing_up_to_the_first_key(visit: Any) -> None:
    visitor: Visitor = await visit(permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    await visitor.open("/keys/")
    await page.get_by_role("main").get_by_role("link", name="Sign up").click()
    await page.get_by_label("Your name").fill("Dana")
    await page.get_by_label("Organisation").fill("Initech")
    await page.get_by_label("Email").fill("dana@initech.example")
    await page.get_by_label("Password").fill("correct horse battery staple")
    await page.get_by_role("button", name="Create account").click()

    # Back where the visitor wanted to go.
    await expect(page.get_by_role("heading", level=1)).to_have_text("API keys")
    await page.get_by_label("Name").fill("laptop")
    await page.get_by_role("button", name="Create key").click()
    secret = await page.locator("#secret").text_content()
    await page.locator(".secret").get_by_role("button", name="Copy").click()
    await expect(page.locator(".secret").get_by_role("button")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == secret

    await page.get_by_label("Revoke laptop").click()
    await page.get_by_role("button", name="Revoke for good").click()
    await expect(page.get_by_role("row", name="laptop")).to_contain_text("Revoked")


async def test_without_javascript_all_but_the_playground_works(visit: Any) -> None:
    visitor: Visitor = await visit("carol@globex.example", java_script_enabled=False)
    page = visitor.page

    await page.get_by_label("english").check()
    await page.get_by_role("button", name="Apply filters").click()
    await expect(page.locator("#count")).to_contain_text("3 models")
    await page.get_by_role("searchbox", name="Search models").fill("sentimnt")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#count")).to_contain_text("1 model")
    await page.get_by_role("link", name="English sentiment").click()
    await expect(page.locator("#try noscript p")).to_be_visible()
    await expect(page.locator("#sample-graphql-python")).to_contain_text("urllib.request")
    await page.get_by_role("button", name="Subscribe to Free").click()
    await expect(page.get_by_role("status")).to_contain_text("Subscribed.")
    await page.get_by_text("Cancel subscription").click()
    await page.get_by_role("button", name="Cancel now").click()
    await expect(page.get_by_role("status")).to_contain_text("Cancelled.")
    await page.locator("details.menu summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()


async def test_filters_answer_at_once_and_the_back_button_undoes_them(visit: Any) -> None:
    visitor: Visitor = await visit()
    page = visitor.page
    await visitor.open("/")

    await page.get_by_label("Text embedding").check()
    await expect(page.locator("#count")).to_contain_text("1 model")
    await expect(page.get_by_label("Text embedding")).to_be_checked()
    await expect(page.get_by_label("Text embedding")).to_be_focused()
    await page.get_by_label("Image classification").check()
    await expect(page.locator("#count")).to_contain_text("2 models")
    await page.go_back()
    await expect(page.locator("#count")).to_contain_text("1 model")
    await page.get_by_role("link", name="Clear filters").click()
    await expect(page.locator("#count")).to_contain_text("6 models")


async def test_by_keyboard_alone(visit: Any) -> None:
    visitor: Visitor = await visit("alice@acme.example")
    page = visitor.page

    async def tab_to(name: str) -> None:
        """Tab until the element with this name or text has the focus; wherever it is, it must be seen."""
        for _ in range(60):
            await page.keyboard.press("Tab")
            told = await page.evaluate(
                """() => {
                  const e = document.activeElement;
                  const shown = [e, e.closest(".card")].some((x) => x && getComputedStyle(x).outlineStyle !== "none");
                  const words = e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent;
                  return [words.replace(/\\s+/g, " ").trim(), shown];
                }"""
            )
            assert told[1], f"no visible focus on {told[0]!r}"
            if told[0].startswith(name):
                return
        pytest.fail(f"{name!r} cannot be reached with the Tab key")

    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await tab_to("Search models")
    await page.keyboard.type("digits")
    await page.keyboard.press("Enter")
    await expect(page.locator("#count")).to_contain_text("1 model")
    await tab_to("Handwritten digits")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Handwritten digits")
    await tab_to("Use the sample")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".verdict strong")).to_have_text("7")
    await expect(page.get_by_role("button", name="Run")).to_be_focused()
    await tab_to("curl")
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tabpanel", name="Python")).to_be_visible()
    await expect(page.get_by_role("tabpanel", name="curl")).to_be_hidden()
    await page.locator("details.menu summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    await expect(page.locator("details.menu summary")).to_be_focused()
