"""What a subscription's terms and quota are now, also in a period in which nobody has called yet and no row exists."""

from typing import Any

from django.db.models import (
    DateTimeField,
    DecimalField,
    Expression,
    F,
    Func,
    OuterRef,
    QuerySet,
    Subquery,
    UUIDField,
    Value,
)
from django.db.models.functions import Coalesce, Greatest, Now

from marketplace.subscriptions.models import UNITS, Plan

from .models import Quota

_UNITS: "DecimalField[Any, Any]" = DecimalField(**UNITS)


class _Period(Func):
    """One end of the period that now falls into, by the function that admission itself uses."""

    function = "metering_period"
    output_field = DateTimeField()

    def __init__(self, end: str) -> None:
        super().__init__(F("created_at"), Now(), template=f"(%(function)s(%(expressions)s)).{end}")


def current_terms() -> dict[str, Expression]:
    """Annotations for ModelSubscriptions: quota_period_start, quota_period_end, and the ids of the plans whose terms
    hold in this period (terms_id) and, as far as is known, in the next (next_terms_id)."""

    def at(moment: str) -> Func:
        return Func(F("plan_id"), F(moment), function="metering_terms", output_field=UUIDField())

    return {
        "quota_period_start": _Period("period_start"),
        "quota_period_end": _Period("period_end"),
        "terms_id": at("quota_period_start"),
        "next_terms_id": at("quota_period_end"),
    }


def current_quota() -> dict[str, Expression]:
    """Annotations for ModelSubscriptions: those of current_terms, quota_limit, quota_settled, quota_held.

    Units; limit = settled + held + what remains.
    """
    row: QuerySet[Quota] = Quota.objects.filter(
        model_subscription=OuterRef("pk"), period_start=OuterRef("quota_period_start")
    )
    allowed = Func(F("included_units"), F("overage_price"), function="metering_limit", output_field=_UNITS)
    terms = Plan.objects.filter(pk=OuterRef("terms_id")).order_by().values(allowed=allowed)
    # As admission has it: a smaller plan never takes back what is already used.
    used = Coalesce(F("quota_settled") + F("quota_held"), Value(0), output_field=_UNITS)
    return current_terms() | {
        "quota_settled": Coalesce(Subquery(row.values("settled")), Value(0), output_field=_UNITS),
        "quota_held": Coalesce(Subquery(row.values("held")), Value(0), output_field=_UNITS),
        "quota_limit": Greatest(Subquery(terms), used, output_field=_UNITS),
    }
