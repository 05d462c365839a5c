"""How values are written for people."""

import pytest

from frontend.templatetags import words


@pytest.mark.parametrize(
    ("value", "written"),
    [("1000000000.000000", "1,000,000,000"), ("0.000000", "0"), ("2.500000", "2.5"), ("1E+3", "1,000")],
)
def test_units(value: str, written: str) -> None:
    assert words.units(value) == written


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        ("0.000000000", "USD", "Free"),
        ("99.000000000", "USD", "$99"),
        ("9.500000000", "USD", "$9.50"),
        ("0.000200000", "USD", "$0.0002"),
        ("1200", "EUR", "1,200 EUR"),
    ],
)
def test_money(amount: str, currency: str, written: str) -> None:
    assert words.money({"amount": amount, "currency": currency}) == written


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        ("1000.000000", "CALL", "1,000 calls"),
        ("1", "CALL", "1 call"),
        ("1.5", "SECOND", "1.5 seconds of compute"),
        ("1", "TOKEN", "1 token"),
        ("0", "ELEMENT", "0 elements of the input"),
        ("3", "SOMETHING_NEW", "3"),
    ],
)
def test_what_a_plan_counts(value: str, unit: str, written: str) -> None:
    assert words.counted(value, unit) == written


def test_nothing_spent_is_not_free() -> None:
    assert words.sum_({"amount": "0.000000000", "currency": "USD"}) == "$0"


def test_a_free_dimension_is_n() -> None:
    assert words.dimensions([-1, 1, 28, 28]) == "n, 1, 28, 28"


def test_a_task_that_this_page_does_not_know_yet_is_shown_as_it_is() -> None:
    assert words.label("IMAGE_CLASSIFICATION") == "Image classification"
    assert words.label("SOMETHING_NEW") == "SOMETHING_NEW"


def test_a_share_is_never_past_the_whole() -> None:
    assert words.share("25", "1000") == "2.500"
    assert words.share("5", "4") == "100.000"
    assert words.share("0", "0") == "0.000"
