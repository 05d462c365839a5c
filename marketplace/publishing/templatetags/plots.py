"""`{% usage_plots %}` on the panel's overview, `{% usage_plots original %}` on a model's page."""

from datetime import timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.catalog.models import MLModel
from marketplace.publishing.plots import Plot
from marketplace.subscriptions import usage

register = template.Library()

DAYS = 30


@register.inclusion_tag("publish/plots.html", takes_context=True)
def usage_plots(context: template.Context, model: MLModel | None = None) -> dict[str, Any]:
    """The last 30 days, UTC: calls, and revenue in each currency in which there was any."""
    from marketplace.publishing.panel.site import principal_of  # noqa: PLC0415  (Django reads tags while it is imported)

    rows = usage.of_publisher(principal_of(context["request"]))
    if model is not None:
        rows = rows.filter(model=model)
    last = timezone.now().date()
    days = usage.by_day(rows, last - timedelta(days=DAYS - 1), last)
    currencies = sorted({currency for figures in days.values() for currency in figures.revenue})
    calls = {day: figures.calls for day, figures in days.items()}
    return {
        "plots": [
            Plot(_("Calls"), "", calls),
            *(
                Plot(_("Revenue"), currency, {day: figures.revenue.get(currency, 0) for day, figures in days.items()})
                for currency in currencies
            ),
        ],
        "days": DAYS,
    }
