"""A month of figures as bars, drawn here as SVG: no script, and the same numbers as a table beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

HEIGHT = 40
GAP = Decimal("0.25")


@dataclass(frozen=True, slots=True)
class Plot:
    """`values` by day; `unit` is what they are of, as in "EUR", where `title` does not say it."""

    title: str
    unit: str
    values: Mapping[date, Decimal | int]

    @property
    def total(self) -> str:
        return self._shown(sum(self.values.values(), Decimal(0)))

    @property
    def most(self) -> str:
        return self._shown(max(self.values.values(), default=0))

    @property
    def first(self) -> str:
        return date_format(min(self.values), "DATE_FORMAT")

    @property
    def last(self) -> str:
        return date_format(max(self.values), "DATE_FORMAT")

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Days on which there was something, latest first."""
        return [
            (date_format(day, "DATE_FORMAT"), self._shown(value))
            for day, value in sorted(self.values.items(), reverse=True)
            if value
        ]

    def svg(self) -> SafeString:
        """One bar a day, each with its words as a tooltip. It is as wide as what it is in, and coloured as its text."""
        top = max(self.values.values(), default=0)
        bars = [
            (
                *(number + GAP / 2, HEIGHT - height, 1 - GAP, height),
                f"{date_format(day, 'DATE_FORMAT')}: {self._shown(value)}",
            )
            for number, (day, value) in enumerate(sorted(self.values.items()))
            # What is not nothing can be seen, and what was taken back is nothing to draw.
            if (height := max(round(Decimal(value) / top * HEIGHT, 2), Decimal("0.5")) if top > 0 and value > 0 else 0)
        ]
        return format_html(
            '<svg viewBox="0 0 {} {}" width="100%" height="128" preserveAspectRatio="none" role="img" aria-label="{}" '
            'class="block text-primary-600 dark:text-primary-500" fill="currentColor">{}</svg>',
            len(self.values),
            HEIGHT,
            f"{self.title}: {self.total}",
            format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', bars),
        )

    def _shown(self, value: Decimal | int) -> str:
        return f"{number_format(Decimal(value).normalize(), force_grouping=True)} {self.unit}".rstrip()
