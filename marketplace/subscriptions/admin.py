"""Plans and contracts, for the operator to look at. Publishers and tenants write them."""

from django.contrib import admin

from marketplace.console import ReadOnlyAdmin

from .models import ModelSubscription, ModelSubscriptionRequest, Plan


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = (
        *("name", "model", "price", "currency", "unit", "included_units", "overage_price"),
        *("requests_per_second", "max_concurrency", "hidden_at"),
    )
    list_filter = ("currency", "unit", ("hidden_at", admin.EmptyFieldListFilter))
    list_select_related = ("model",)
    search_fields = ("name", "model__name")
    ordering = ("-pk",)
    readonly_fields = ("hidden_at", "successor", "successor_from")


@admin.register(ModelSubscription)
class ModelSubscriptionAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "model", "plan", "status", "created_at", "cancelled_at")
    list_filter = ("status",)
    list_select_related = ("tenant", "model", "plan")
    search_fields = ("tenant__slug", "model__name")
    ordering = ("-pk",)
    readonly_fields = ("created_at", "cancelled_at")


@admin.register(ModelSubscriptionRequest)
class ModelSubscriptionRequestAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "model", "plan", "status", "created_at", "decided_at")
    list_filter = ("status",)
    list_select_related = ("tenant", "model", "plan")
    search_fields = ("tenant__slug", "model__name")
    ordering = ("-pk",)
    readonly_fields = ("status", "created_at", "decided_at")
