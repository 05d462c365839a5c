"""Limits on what may be spent, set and removed on a phone, with JavaScript and without."""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visitor

pytestmark = pytest.mark.xdist_group("browser")

FLAWS = (Path(__file__).parent / "flaws.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_cap_and_a_key_s_budget_are_set_and_removed(visit: Any, scripts: bool) -> None:
    visitor: Visitor = await visit("alice@acme.example", width=390, java_script_enabled=scripts)
    page, main = visitor.page, visitor.page.get_by_role("main")

    async def usable() -> None:
        if scripts:
            assert await page.evaluate(FLAWS) == []

    await visitor.open("/usage/")
    await main.get_by_label("At most, a month").fill("7.5")
    await main.get_by_label("Currency").fill("eur")
    await main.get_by_role("button", name="Set cap").click()
    await expect(main).to_contain_text("The spending cap is set.")
    await expect(main).to_contain_text("7.50 EUR a month")
    await usable()
    await main.get_by_label("Remove the cap in EUR").click()
    await usable()
    await main.get_by_role("button", name="Remove now").click()
    await expect(main).to_contain_text("The spending cap is removed.")

    await visitor.open("/keys/")
    await main.get_by_label("Set the budget of Demo").first.click()
    await usable()
    await main.get_by_label("At most, a month").first.fill("2.5")
    await main.get_by_role("button", name="Set budget").click()
    await expect(main).to_contain_text("The key's budget is set.")
    await expect(main).to_contain_text("$2.50 a month")
    await usable()
    await main.get_by_role("button", name="Remove the budget of Demo").click()
    await expect(main).to_contain_text("The key's budget is removed.")
