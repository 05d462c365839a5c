"""Where versions run and what they delivered, for the operator to look at. The worker writes it."""

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.functions import Abs
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from marketplace.console import ReadOnlyAdmin, ReadOnlyInline

from .models import Deployment, TritonCounter, UsageReconciliation


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ("version", "endpoint", "status", "failures", "changed_at", "error")
    list_filter = ("status", "endpoint")
    list_select_related = ("version__model",)
    search_fields = ("version__model__name", "endpoint")
    ordering = ("-pk",)


class TritonCounterInline(ReadOnlyInline):
    model = TritonCounter
    fields = ("endpoint", "succeeded", "cached", "failed", "last_call_at")


@admin.register(UsageReconciliation)
class UsageReconciliationAdmin(ReadOnlyAdmin):
    list_display = (
        "version",
        "shown_drift",
        "drift_since",
        "delivered",
        "settled",
        "shown_released",
        "in_flight",
        "cached",
        "uncounted",
        "since",
        "checked_at",
    )
    list_select_related = ("version__model__publisher",)
    list_before_template = "inference/usage.html"
    search_fields = ("version__model__name", "version__model__publisher__slug")
    fields = (
        "version",
        "shown_drift",
        "drift_since",
        "delivered",
        "settled",
        "shown_released",
        "in_flight",
        "cached",
        "failed",
        "uncounted",
        "since",
        "checked_at",
    )
    inlines = (TritonCounterInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageReconciliation]:
        rows: QuerySet[UsageReconciliation] = super().get_queryset(request)
        return rows.annotate(distance=Abs("drift"))

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        return (F("distance").desc(), F("delivered").desc(), "pk")

    @display(
        description=gettext_lazy("Unexplained drift"), ordering="distance", label={"none": "success", "some": "danger"}
    )
    def shown_drift(self, usage: UsageReconciliation) -> tuple[str, str]:
        if usage.checked_at is None:
            return "unknown", _("not checked yet")
        return ("some", f"{usage.drift:+d}") if usage.drift else ("none", _("none"))

    @display(description=gettext_lazy("Released by us"))
    def shown_released(self, usage: UsageReconciliation) -> str:
        """By reason, the most frequent first."""
        reasons = sorted(usage.released.items(), key=lambda reason: -reason[1])
        return ", ".join(f"{reason} {number}" for reason, number in reasons) or "0"
