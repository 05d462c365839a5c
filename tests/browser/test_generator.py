"""A model that writes text: its words appear as they come, a button stops it, and it answers without JavaScript too."""

import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visitor

pytestmark = pytest.mark.xdist_group("browser")

ALICE = "alice@acme.example"
PAGE = "/models/openlab/smollm2/"


async def asked(visitor: Visitor, prompt: str, **settings: str) -> None:
    page = visitor.page
    await visitor.open(PAGE)
    await page.get_by_label("Prompt").fill(prompt)
    if not await page.get_by_label("Most tokens").is_visible():
        await page.get_by_text("How it writes").click()
    for label, value in settings.items():
        await page.get_by_label(label.replace("_", " ")).fill(value)


async def test_words_appear_as_they_come_and_then_what_they_cost(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await asked(visitor, "Say something", Most_tokens="40", Temperature="0")
    # Each state of the text that a reader could have seen.
    await page.evaluate(
        """() => {
          window.seen = [];
          const look = () => seen.push(document.querySelector(".generated")?.textContent ?? "");
          const result = document.getElementById("generate-result");
          new MutationObserver(look).observe(result, { childList: true, subtree: true, characterData: true });
        }"""
    )

    await page.get_by_role("button", name="Write").click()

    await expect(page.locator(".facts-line")).to_contain_text("units charged")
    await expect(page.get_by_role("button", name="Write")).to_be_visible()
    text = await page.locator(".generated").text_content()
    seen = await page.evaluate("seen")
    assert len({state for state in seen if state}) > 5
    assert all(text.startswith(state) for state in seen)
    await expect(page.get_by_role("status").last).to_contain_text("units charged")


async def test_stop_stops_and_says_what_was_charged(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await asked(visitor, "Say very much", Most_tokens="2000", Temperature="0", Seed="1")
    # By the first word, in the page itself: from out here, a quick model would be done by then.
    await page.evaluate(
        """() => {
          const stop = document.getElementById("generate-stop-now");
          const result = document.getElementById("generate-result");
          new MutationObserver((_changes, observer) => {
            if (!document.querySelector(".generated")?.textContent) return;
            observer.disconnect();
            stop.focus();
            stop.click();
          }).observe(result, { childList: true, subtree: true, characterData: true });
        }"""
    )

    await page.get_by_role("button", name="Write").focus()
    await page.keyboard.press("Enter")

    await expect(page.locator(".generation")).to_contain_text("Stopped.")
    charged = await page.locator(".facts-line").text_content() or ""
    found = re.search(r"([\d,]+) units? charged", charged)
    assert found
    assert 0 < int(found[1].replace(",", "")) < 2000
    await expect(page.get_by_role("button", name="Write")).to_be_focused()


async def test_what_the_model_refuses_is_said(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await asked(visitor, "x " * 10_000)

    await page.get_by_role("button", name="Write").click()

    await expect(page.locator(".generation").get_by_role("alert")).to_be_visible()
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_a_session_that_ended_is_said(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    await asked(visitor, "Say something")
    await visitor.context.clear_cookies()

    await visitor.page.get_by_role("button", name="Write").click()

    await expect(visitor.page.locator(".generation")).to_contain_text("Your session has ended")
    # The browser notes every answer of 403.
    visitor.complaints.clear()


async def test_without_javascript_it_answers_in_one_piece(visit: Any) -> None:
    streaming: Visitor = await visit(ALICE)
    await asked(streaming, "Say something", Most_tokens="20", Temperature="0")
    await streaming.page.get_by_role("button", name="Write").click()
    await expect(streaming.page.locator(".facts-line")).to_be_visible()
    visitor: Visitor = await visit(ALICE, java_script_enabled=False)
    await asked(visitor, "Say something", Most_tokens="20", Temperature="0")

    await visitor.page.get_by_role("button", name="Write").click()

    assert (
        await visitor.page.locator(".generated").text_content()
        == await streaming.page.locator(".generated").text_content()
    )
    await expect(visitor.page.locator(".facts-line")).to_contain_text("tokens charged")
    await expect(visitor.page.get_by_label("Prompt")).to_have_value("Say something")
    await expect(visitor.page.get_by_label("Most tokens")).to_have_value("20")


async def test_a_visitor_is_asked_to_sign_in(visit: Any) -> None:
    visitor: Visitor = await visit()
    await visitor.open(PAGE)

    await visitor.page.get_by_role("link", name="Sign in to run it").click()

    await expect(visitor.page).to_have_url(re.compile(r"/accounts/login/\?next=/models/openlab/smollm2/"))


async def test_graphiql_shows_a_subscription_as_it_goes(visit: Any) -> None:
    visitor: Visitor = await visit(ALICE)
    page = visitor.page
    await visitor.open("/graphql")

    await page.locator(".graphiql-query-editor .CodeMirror").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(
        """subscription {
          invokeModel(input: {model: "openlab/smollm2", parameters: {max_tokens: 5}, inputs: [
            {name: "text_input", datatype: BYTES, shape: [1], data: ["Once"]}
          ]}) { ... on InvokeModelPayload { invocation { status } errors { message } } }
        }"""
    )
    await page.keyboard.press("Control+Enter")

    await expect(page.locator(".result-window")).to_contain_text('"status": "SUCCEEDED"')
