"""What a subscription's quota is now, also in a period in which nobody has called yet and no row exists."""

from typing import Any

from django.db.models import DateTimeField, DecimalField, Expression, F, Func, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Greatest, Now

from marketplace.subscriptions.models import UNITS

from .models import Quota

_UNITS: "DecimalField[Any, Any]" = DecimalField(**UNITS)


class _Period(Func):
    """One end of the period that now falls into, by the function that admission itself uses."""

    function = "metering_period"
    output_field = DateTimeField()

    def __init__(self, end: str) -> None:
        super().__init__(F("created_at"), Now(), template=f"(%(function)s(%(expressions)s)).{end}")


def current_quota() -> dict[str, Expression]:
    """Annotations for ModelSubscriptions: quota_period_start, quota_period_end, quota_limit, quota_settled, quota_held.

    Units; limit = settled + held + what remains.
    """
    row: QuerySet[Quota] = Quota.objects.filter(
        model_subscription=OuterRef("pk"), period_start=OuterRef("quota_period_start")
    )
    allowed = Func(F("plan__included_units"), F("plan__overage_price"), function="metering_limit", output_field=_UNITS)
    # As admission has it: a smaller plan never takes back what is already used.
    used = Coalesce(F("quota_settled") + F("quota_held"), Value(0), output_field=_UNITS)
    return {
        "quota_period_start": _Period("period_start"),
        "quota_period_end": _Period("period_end"),
        "quota_settled": Coalesce(Subquery(row.values("settled")), Value(0), output_field=_UNITS),
        "quota_held": Coalesce(Subquery(row.values("held")), Value(0), output_field=_UNITS),
        "quota_limit": Greatest(allowed, used, output_field=_UNITS),
    }
