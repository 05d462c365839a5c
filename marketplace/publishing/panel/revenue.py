"""What the models were used for and what that brought, a row for each day, model, plan and tenant."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models import Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display

from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.subscriptions.models import DailyUsage, MeteredUnit

from .site import UNITS, PanelAdmin, principal_of, publisher_site, shown


class OwnModelFilter(admin.SimpleListFilter):
    """For as many models as one can choose from; the search finds any."""

    MOST = 200
    title = gettext_lazy("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        own = MLModel.objects.filter(publisher_id=principal_of(request).tenant_id).order_by("name")
        names = list(own.values_list("name", flat=True)[: self.MOST + 1])
        return [(name, name) for name in names] if len(names) <= self.MOST else []

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[DailyUsage]) -> models.QuerySet[DailyUsage]:
        return queryset.filter(model__name=self.value()) if self.value() else queryset


@admin.register(DailyUsage, site=publisher_site)
class DailyUsageAdmin(PanelAdmin):
    icon = "bar_chart"
    list_display = ("day", "model", "shown_plan", "tenant", "shown_calls", "shown_units", "revenue")
    list_filter = (OwnModelFilter,)
    search_fields = ("tenant__slug", "tenant__name", "model__name")
    ordering = ("-day", "-calls", "-pk")
    fields = readonly_fields = list_display
    list_before_template = "publish/usage.html"
    empty_state = gettext_lazy("Every delivered call is counted here, a minute or two after it was made.")

    def own(self, principal: Principal) -> models.QuerySet[DailyUsage]:
        rows = DailyUsage.objects.filter(model__publisher_id=principal.tenant_id)
        rows = rows.annotate(unit=Coalesce("plan__unit", Value(MeteredUnit.CALL.value)))
        return rows.select_related("model", "plan", "tenant")

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return publisher_site.has_permission(request)

    @display(description=gettext_lazy("Plan"))
    def shown_plan(self, usage: DailyUsage) -> str:
        return _("your own calls") if usage.plan is None else usage.plan.name

    @display(description=gettext_lazy("Calls"), ordering="calls")
    def shown_calls(self, usage: DailyUsage) -> str:
        return f"{usage.calls:,}"

    @display(description=gettext_lazy("Units"), ordering="units")
    def shown_units(self, usage: DailyUsage) -> str:
        return f"{shown(usage.units)} {UNITS[usage.unit]}"  # type: ignore[attr-defined]  # as `own` has it

    @display(description=gettext_lazy("Revenue"), ordering="amount")
    def revenue(self, usage: DailyUsage) -> str:
        return f"{shown(usage.amount)} {usage.currency}"
