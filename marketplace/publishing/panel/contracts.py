"""What tenants have of a publisher: plans, who subscribes to them, and who may use a private model."""

from decimal import Decimal
from typing import Any

from django.contrib import admin, messages
from django.db import models
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display

from marketplace.access import Principal
from marketplace.catalog.models import MLModelGroupObjectPermission, Visibility
from marketplace.publishing.plans import hide_plan, take_back_plan
from marketplace.subscriptions import sharing
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionStatus, Plan

from .controls import ControlledAdmin
from .forms import GrantForm, PlanForm
from .site import PER_UNIT, PanelAdmin, may_publish, principal_of, publisher_site, shown, shown_units


@admin.register(Plan, site=publisher_site)
class PlanAdmin(ControlledAdmin):
    form = PlanForm
    icon = "sell"
    list_display = ("name", "model", "monthly", "units", "overage", "rate", "on_offer")
    list_filter = (("hidden_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "model__name", "model__display_name")
    ordering = ("-pk",)
    empty_state = gettext_lazy("A plan is what tenants subscribe to: a price, included units and a rate. Add one.")
    actions_detail = ("take_back", "hide", "offer")
    hints = {
        "take_back": gettext_lazy("The terms of before hold again; who waits for the new ones keeps those it has."),
        "hide": gettext_lazy("Nobody can choose it any more; who is on it stays on it."),
        "offer": gettext_lazy("It is hidden. Tenants can choose it again."),
    }
    change_form_outer_before_template = "publish/controlled.html"

    def own(self, principal: Principal) -> models.QuerySet[Plan]:
        """Their latest terms."""
        waiting = (
            ModelSubscription.objects.current()
            .filter(plan__line=models.OuterRef("line"))
            .exclude(plan=models.OuterRef("pk"))
            .order_by()
            .values("plan__line")
            .annotate(count=models.Count("pk"))
            .values("count")
        )
        rows = Plan.objects.filter(model__publisher_id=principal.tenant_id).latest_terms().select_related("model")
        return rows.annotate(waiting=Coalesce(models.Subquery(waiting), 0))

    @display(description=gettext_lazy("Price per month"), ordering="price")
    def monthly(self, plan: Plan) -> str:
        return f"{shown(plan.price)} {plan.currency}"

    @display(description=gettext_lazy("Included units"), ordering="included_units")
    def units(self, plan: Plan) -> str:
        return shown_units(plan, plan.included_units)

    @display(description=gettext_lazy("Past them"), ordering="overage_price")
    def overage(self, plan: Plan) -> str:
        if plan.overage_price is None:
            return _("refused")
        return f"{shown(plan.overage_price)} {plan.currency} {PER_UNIT[plan.unit]}"

    @display(description=gettext_lazy("Rate"), ordering="requests_per_second")
    def rate(self, plan: Plan) -> str:
        text = (
            _("%(rate)s calls a second, %(burst)s at once")
            if plan.max_concurrency is None
            else _("%(rate)s calls a second, %(burst)s at once, %(most)s running")
        )
        figures = {"rate": plan.requests_per_second, "burst": plan.burst, "most": plan.max_concurrency or 0}
        return text % {name: number_format(figure, force_grouping=True) for name, figure in figures.items()}

    @display(description=gettext_lazy("Subscribers on earlier terms"))
    def on_earlier_terms(self, plan: Plan) -> str:
        if not plan.waiting:  # type: ignore[attr-defined]  # as `own` has it
            return _("none")
        return _("%(count)d, each until its period ends") % {"count": plan.waiting}  # type: ignore[attr-defined]

    @display(description=gettext_lazy("On offer"), boolean=True, ordering="hidden_at")
    def on_offer(self, plan: Plan) -> bool:
        return plan.hidden_at is None

    def get_form(self, request: HttpRequest, obj: Plan | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"principal": principal_of(request)})

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return ("model", "on_earlier_terms") if obj else ()

    def get_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return (*PlanForm.Meta.fields, "on_earlier_terms") if obj else PlanForm.Meta.fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_publish(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may_publish(request)

    def save_model(self, request: HttpRequest, obj: Plan, form: PlanForm, change: bool) -> None:
        """The form's action has saved it."""

    def response_change(self, request: HttpRequest, obj: Plan) -> HttpResponse:
        """Changed terms are a row of their own: its page, not that of the terms before."""
        if not Plan.objects.filter(successor=obj.pk, successor_from__gt=timezone.now()).exists():
            changed: HttpResponse = super().response_change(request, obj)
            return changed
        messages.success(
            request,
            _("The new terms are on offer. Who is subscribed keeps the old ones until its period ends, and is told."),
        )
        return HttpResponseRedirect(reverse("publish:subscriptions_plan_change", args=[obj.pk]))

    @action(description=gettext_lazy("Take the change back"), url_path="take-back", icon="undo")
    def take_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_(
                "Take the last change of this plan back? Who waits for it keeps the terms that it has; who has the "
                "changed ones already goes back when its period ends."
            ),
            act=lambda plan: take_back_plan(principal_of(request), plan_id=plan.pk),
            done=_("The terms of before are on offer again."),
        )

    @action(description=gettext_lazy("Hide"), url_path="hide", icon="visibility_off")
    def hide(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Hide this plan? Nobody can choose it any more; who is on it stays on it."),
            act=lambda plan: hide_plan(principal_of(request), plan_id=plan.pk),
            done=_("The plan is hidden."),
        )

    @action(description=gettext_lazy("Offer again"), url_path="offer", icon="visibility")
    def offer(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Offer this plan again?"),
            act=lambda plan: hide_plan(principal_of(request), plan_id=plan.pk, hidden=False),
            done=_("The plan is on offer again."),
        )

    def offered(self, row: Plan) -> set[str]:
        waited_for = {"take_back"} if row.waiting else set()  # type: ignore[attr-defined]  # as `own` has it
        return {"offer" if row.hidden_at else "hide"} | waited_for


@admin.register(ModelSubscription, site=publisher_site)
class SubscriberAdmin(PanelAdmin):
    icon = "groups"
    list_display = ("tenant", "model", "plan", "shown_status", "created_at", "used")
    list_filter = ("status",)
    search_fields = ("tenant__name", "tenant__slug", "model__name")
    ordering = ("-created_at", "-pk")
    fields = ("tenant", "model", "plan", "status", "created_at", "cancelled_at", "used")
    readonly_fields = fields
    empty_state = gettext_lazy("Who subscribes to one of your models appears here.")

    def own(self, principal: Principal) -> models.QuerySet[ModelSubscription]:
        return (
            ModelSubscription.objects.of_publisher(principal)
            .select_related("tenant", "model", "plan")
            .prefetch_related("quotas")
        )

    @display(
        description=gettext_lazy("Status"),
        ordering="status",
        label={ModelSubscriptionStatus.ACTIVE: "success", ModelSubscriptionStatus.SUSPENDED: "warning"},
    )
    def shown_status(self, contract: ModelSubscription) -> tuple[str, str]:
        return contract.status, contract.get_status_display()

    @display(description=gettext_lazy("Used this month"))
    def used(self, contract: ModelSubscription) -> str:
        now = timezone.now()
        # Metering is no room of publishing's: the rows come by way of the relation, a month each.
        months = getattr(contract, "quotas").all()  # noqa: B009
        used = [month.settled for month in months if month.period_start <= now < month.period_end]
        return shown_units(contract.plan, sum(used, Decimal(0)))


@admin.register(MLModelGroupObjectPermission, site=publisher_site)
class GrantAdmin(PanelAdmin):
    """Deleting a row is the one way to withdraw access: the row is nothing but that access."""

    form = GrantForm
    icon = "key"
    list_display = ("tenant", "private_model")
    search_fields = ("group__tenant__name", "group__tenant__slug", "content_object__name")
    ordering = ("-pk",)
    empty_state = gettext_lazy("A private model is seen only by tenants that you give access to it.")

    def own(self, principal: Principal) -> models.QuerySet[MLModelGroupObjectPermission]:
        rows: models.QuerySet[MLModelGroupObjectPermission] = MLModelGroupObjectPermission.objects.filter(
            content_object__publisher_id=principal.tenant_id,
            content_object__visibility=Visibility.PRIVATE,
            permission__codename="use_mlmodel",
            group__tenant__isnull=False,
        )
        return rows.select_related("content_object", "group__tenant")

    @display(description=gettext_lazy("Tenant"), ordering="group__tenant__name")
    def tenant(self, grant: MLModelGroupObjectPermission) -> str:
        return str(grant.group.tenant)

    @display(description=gettext_lazy("Private model"), ordering="content_object__display_name")
    def private_model(self, grant: MLModelGroupObjectPermission) -> str:
        return str(grant.content_object)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"principal": principal_of(request)})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("tenant", "private_model") if obj else ("tenant", "content_object")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("tenant", "private_model") if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_publish(request)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may_publish(request)

    def save_model(self, request: HttpRequest, obj: Any, form: GrantForm, change: bool) -> None:
        """The form's action has saved it."""

    def delete_model(self, request: HttpRequest, obj: MLModelGroupObjectPermission) -> None:
        sharing.withdraw(principal_of(request), model=obj.content_object, tenant=obj.group.tenant)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        for grant in queryset:
            self.delete_model(request, grant)
