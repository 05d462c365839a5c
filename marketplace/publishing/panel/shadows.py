"""How a shadow's answers compare with the live version's to the same calls."""

from dataclasses import dataclass
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _

from marketplace.catalog.models import ModelVersion


@dataclass(frozen=True, slots=True)
class Comparison:
    """With the live version of number `live`; `facts`: what each is called, and what it is."""

    live: int
    facts: list[tuple[str, str]]


def comparisons_of(version: ModelVersion) -> list[Comparison]:
    """The newest first."""
    # Whose model is in a room above, which may not be imported here: the rows come by way of the relation.
    rows = getattr(version, "comparisons").select_related("live").order_by("-updated_at", "-id")  # noqa: B009
    return [Comparison(row.live.number, _facts(row)) for row in rows]


def _facts(row: Any) -> list[tuple[str, str]]:
    facts = [
        (_("Calls asked"), _count(row.asked)),
        (_("Equal answers"), _count(row.equal)),
        (_("Close ones, within a thousandth"), _count(row.close)),
        (_("Different ones"), _count(row.different)),
        (_("Of another form"), _count(row.mismatched)),
        (_("It failed"), _count(row.failed)),
        (_("Dropped, to keep nobody waiting"), _count(row.dropped)),
    ]
    if row.compared:
        times = {"shadow": f"{row.shadow_ms / row.compared:.1f}", "live": f"{row.live_ms / row.compared:.1f}"}
        facts.append((_("Time, and the live version's"), _("%(shadow)s ms, %(live)s ms") % times))
    if row.max_difference is not None:
        facts.append((_("Largest difference"), f"{row.max_difference:.3g}"))
    return facts


def _count(number: int) -> str:
    return number_format(number, force_grouping=True)
