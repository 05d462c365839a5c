"""Where versions run and what they delivered, for the operator to look at. The worker writes it."""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.functions import Abs
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from marketplace.console import ReadOnlyAdmin, ReadOnlyInline

from .models import Deployment, DeploymentStatus, TritonCounter, UsageReconciliation


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ("version", "endpoint", "judged", "loaded_at", "memory", "used_at", "failures", "error")
    list_filter = ("status", "endpoint")
    list_select_related = ("version__model",)
    search_fields = ("version__model__name", "endpoint", "name")
    ordering = ("-pk",)
    fields = readonly_fields = (
        *("version", "endpoint", "name", "judged", "error", "failures", "changed_at"),
        *("loaded_at", "load_seconds", "memory", "processes", "used_at", "wanted_at"),
    )

    @display(
        description=gettext_lazy("Status"),
        ordering="status",
        label={
            DeploymentStatus.READY: "success",
            DeploymentStatus.FAILED: "danger",
            DeploymentStatus.PENDING: "info",
            DeploymentStatus.DRAINING: "warning",
        },
    )
    def judged(self, deployment: Deployment) -> tuple[str, str]:
        return deployment.status, deployment.get_status_display()

    @display(description=gettext_lazy("Memory"), ordering="memory_bytes")
    def memory(self, deployment: Deployment) -> str:
        return filesizeformat(deployment.memory_bytes)


class TritonCounterInline(ReadOnlyInline):
    model = TritonCounter
    fields = ("endpoint", "succeeded", "cached", "failed", "last_call_at")


def _count(field: str, description: Promise) -> Callable[[UsageReconciliation], str]:
    """A column of calls, in groups of three digits."""

    @display(description=description, ordering=field)
    def shown(usage: UsageReconciliation) -> str:
        return number_format(getattr(usage, field), force_grouping=True)

    return cast(Callable[[UsageReconciliation], str], shown)


DELIVERED = _count("delivered", gettext_lazy("Delivered"))
CACHED = _count("cached", gettext_lazy("From cache"))
FAILED = _count("failed", gettext_lazy("Failed"))
SETTLED = _count("settled", gettext_lazy("Settled"))
IN_FLIGHT = _count("in_flight", gettext_lazy("In flight"))
SHADOWED = _count("shadowed", gettext_lazy("As a shadow"))
LOST = _count("uncounted", gettext_lazy("Lost"))


@admin.register(UsageReconciliation)
class UsageReconciliationAdmin(ReadOnlyAdmin):
    list_display = ("named", "judged", "drift_since", DELIVERED, CACHED, SETTLED, "by_reason", LOST, "checked_at")
    list_select_related = ("version__model__publisher",)
    list_before_template = "inference/usage.html"
    search_fields = ("version__model__name", "version__model__publisher__slug")
    fields = readonly_fields = (
        "version",
        "signed_drift",
        "drift_since",
        DELIVERED,
        CACHED,
        FAILED,
        SETTLED,
        "by_reason",
        IN_FLIGHT,
        SHADOWED,
        LOST,
        "since",
        "checked_at",
    )
    inlines = (TritonCounterInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageReconciliation]:
        rows: QuerySet[UsageReconciliation] = super().get_queryset(request)
        return rows.annotate(distance=Abs("drift"))

    def get_ordering(self, request: HttpRequest) -> tuple[Any, ...]:
        return (F("distance").desc(), F("delivered").desc(), "pk")

    @display(description=gettext_lazy("Version"))
    def named(self, usage: UsageReconciliation) -> str:
        return f"{usage.version.model.ref} v{usage.version.number}"

    @display(
        description=gettext_lazy("Drift"),
        ordering="distance",
        label={"none": "success", "some": "danger", "unknown": "info"},
    )
    def judged(self, usage: UsageReconciliation) -> tuple[str, str]:
        if usage.checked_at is None:
            return "unknown", _("unchecked")
        return ("some", f"{usage.drift:+d}") if usage.drift else ("none", _("none"))

    @display(description=gettext_lazy("Drift"))
    def signed_drift(self, usage: UsageReconciliation) -> str:
        if usage.drift > 0:
            return _("+%(calls)d: delivered, and none of ours") % {"calls": usage.drift}
        if usage.drift < 0:
            return _("%(calls)d: settled, and never delivered") % {"calls": usage.drift}
        return _("none")

    @display(description=gettext_lazy("Released"))
    def by_reason(self, usage: UsageReconciliation) -> str:
        """By reason, the most frequent first."""
        reasons = sorted(usage.released.items(), key=lambda reason: -reason[1])
        return ", ".join(f"{reason} {number_format(calls, force_grouping=True)}" for reason, calls in reasons) or "0"
