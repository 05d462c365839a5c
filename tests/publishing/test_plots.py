"""Figures as bars: what is drawn, and what is read instead."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from marketplace.publishing.panel.revenue import OwnModelFilter
from marketplace.publishing.plots import Plot
from marketplace.subscriptions.models import DailyUsage
from tests.publishing.conftest import House

MONDAY = date(2026, 3, 2)


def plot(*values: Decimal | int, title: str = "Calls") -> Plot:
    return Plot(title, "calls", {MONDAY + timedelta(days=day): value for day, value in enumerate(values)})


def test_the_tallest_bar_fills_the_height_and_the_others_are_in_proportion() -> None:
    drawn = plot(1000, 250, 0).svg()

    assert drawn.count("<rect") == 2
    assert 'height="40.00"><title>March 2, 2026: 1,000 calls</title>' in drawn
    assert 'y="30.00" width="0.75" height="10.00"' in drawn


def test_little_beside_much_is_seen_and_less_than_nothing_is_not_drawn() -> None:
    drawn = plot(1_000_000, 1, -5).svg()

    assert drawn.count("<rect") == 2
    assert 'height="0.5"' in drawn


def test_nothing_at_all_is_an_empty_frame() -> None:
    assert "<rect" not in plot(0, 0).svg()
    assert plot(0, 0).rows == []


def test_it_says_its_total_and_has_the_same_numbers_as_rows() -> None:
    drawn = plot(1, 0, Decimal("2.50"))

    assert (drawn.total, drawn.most) == ("3.5 calls", "2.5 calls")
    assert drawn.rows == [("March 4, 2026", "2.5 calls"), ("March 2, 2026", "1 calls")]
    assert 'role="img" aria-label="Calls: 3.5 calls"' in drawn.svg()


def test_words_cannot_leave_their_attribute() -> None:
    assert '"><script>' not in plot(1, title='"><script>').svg()


def test_the_panel_shows_the_last_thirty_days_of_ones_own_models(house: House) -> None:
    today = timezone.now().date()
    for days, calls in ((0, 5), (29, 2), (30, 1000)):
        DailyUsage.objects.create(
            **{"model": house.model, "plan": house.plan, "tenant": house.acme, "units": 1, "currency": "USD"},
            **{"day": today - timedelta(days=days), "calls": calls, "amount": Decimal("0.5")},
        )

    figures = "/publish/subscriptions/dailyusage/"
    for page in ("/publish/", f"/publish/catalog/mlmodel/{house.model.pk}/change/", figures):
        shown = house.browser("owner").get(page).content.decode()
        assert "Calls: 7</span>" in shown, page
        assert "Revenue: 1 USD" in shown, page
    nothing = house.browser("other publisher").get(figures).content.decode()
    assert "Calls: 0</span>" in nothing
    assert "<svg" not in nothing


def test_more_models_than_one_can_choose_from_are_searched_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, owner = "/publish/subscriptions/dailyusage/", house.browser("owner")
    assert "?model=digits" in owner.get(figures).content.decode()

    monkeypatch.setattr(OwnModelFilter, "MOST", 1)
    assert "?model=digits" not in owner.get(figures).content.decode()
    assert list(owner.get(figures, {"q": "digits"}).context["cl"].result_list) == [house.day]
    assert not owner.get(figures, {"q": "letters"}).context["cl"].result_list
