"""How the API's values are written for people."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from frontend.labels import LABELS, PER_UNIT

register = template.Library()


@register.filter
def label(value: str) -> str | Promise:
    """An enum value as a word: IMAGE_CLASSIFICATION is Image classification."""
    return LABELS.get(value, value)


@register.filter
def units(value: str | Decimal) -> str:
    """A metered amount without idle zeros: 1000000000.000000 is 1,000,000,000."""
    number = Decimal(value).normalize()
    return number_format(f"{number:f}", use_l10n=True, force_grouping=True)


@register.filter
def counted(value: str, unit: str) -> str:
    """An amount of what a plan meters: 1000 of CALL is 1,000 calls."""
    number = Decimal(value)
    # What is not whole is many.
    many = int(number) if number == number.to_integral_value() else 2
    words = {
        "CALL": ngettext("%(number)s call", "%(number)s calls", many),
        "ELEMENT": ngettext("%(number)s element of the input", "%(number)s elements of the input", many),
        "SECOND": ngettext("%(number)s second of compute", "%(number)s seconds of compute", many),
        "TOKEN": ngettext("%(number)s token", "%(number)s tokens", many),
    }
    return words.get(unit, "%(number)s") % {"number": units(value)}


@register.filter
def per(unit: str) -> str | Promise:
    """What a plan's price is for: SECOND is per second of compute."""
    return PER_UNIT.get(unit, unit)


@register.filter
def money(value: dict[str, str]) -> str:
    """A price: as `sum`, but 0 is Free."""
    return sum_(value) if Decimal(value["amount"]) else _("Free")


@register.filter("sum")
def sum_(value: dict[str, str]) -> str:
    """A sum of money: whole amounts have no cents."""
    amount = Decimal(value["amount"])
    places = 0 if amount == amount.to_integral_value() else max(2, -int(amount.normalize().as_tuple().exponent))
    written = number_format(amount, decimal_pos=places, use_l10n=True, force_grouping=True)
    return f"${written}" if value["currency"] == "USD" else f"{written} {value['currency']}"


@register.filter
def moment(value: str) -> datetime | None:
    """ISO 8601 to a datetime, for the `date` filter and <time>."""
    return parse_datetime(value)


@register.filter
def dimensions(shape: list[int]) -> str:
    """[-1, 1, 28, 28] as n, 1, 28, 28: -1 is any length."""
    return ", ".join("n" if size == -1 else str(size) for size in shape)


@register.filter
def size(value: str | int) -> str:
    return filesizeformat(int(value))


@register.filter
def share(part: str, whole: str) -> str:
    """Hundredths of the whole, as a plain number for SVG: no locale, never past 100."""
    total = Decimal(whole)
    return f"{min(Decimal(part) / total * 100, Decimal(100)) if total else Decimal(0):.3f}"


@register.filter
def model_url(ref: str) -> str:
    """The page of `publisher/name`."""
    return reverse("model", args=ref.split("/", 1))


@register.filter
def nodes(connection: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a Relay connection."""
    return [edge["node"] for edge in connection["edges"]]
