"""Tables below a row: what belongs to it, for reading."""

from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from marketplace.catalog.models import ModelVersion, TensorSpec
from marketplace.console import ReadOnlyInline
from marketplace.subscriptions.models import Plan

from .site import may_publish, shown, shown_units


class PanelInline(ReadOnlyInline):
    per_page = 10

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may_publish(request)


class VersionInline(PanelInline):
    model = ModelVersion
    fk_name = "model"
    fields = readonly_fields = ("version", "status", "format", "created_at", "released_at")
    ordering = ("-number",)

    @display(description=gettext_lazy("Version"))
    def version(self, version: ModelVersion) -> str:
        return _link("catalog_modelversion_change", version, str(version.number))


class PlanInline(PanelInline):
    model = Plan
    fields = readonly_fields = ("plan", "monthly", "units", "requests_per_second", "hidden_at")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Plan]:
        return super().get_queryset(request).filter(successor=None)

    @display(description=gettext_lazy("Plan"))
    def plan(self, plan: Plan) -> str:
        return _link("subscriptions_plan_change", plan, plan.name)

    @display(description=gettext_lazy("Price per month"))
    def monthly(self, plan: Plan) -> str:
        return f"{shown(plan.price)} {plan.currency}"

    @display(description=gettext_lazy("Included units"))
    def units(self, plan: Plan) -> str:
        return shown_units(plan, plan.included_units)


class TensorInline(PanelInline):
    model = TensorSpec
    fields = readonly_fields = ("direction", "name", "kind", "content_type", "label_count")

    @display(description=gettext_lazy("Datatype and shape"))
    def kind(self, tensor: TensorSpec) -> str:
        return f"{tensor.datatype} {tensor.shape}"

    @display(description=gettext_lazy("Labels"), empty_value="–")
    def label_count(self, tensor: TensorSpec) -> int | None:
        return len(tensor.labels) if tensor.labels else None


def _link(page: str, row: models.Model, text: str) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(f"publish:{page}", args=[row.pk]), text)
