"""The exact part, for the operator to look at. Only the functions in migrations/batches.sql write it."""

from django.contrib import admin

from marketplace.console import EndlessAdmin

from .models import Hold, LedgerEntry, Quota


@admin.register(Quota)
class QuotaAdmin(EndlessAdmin):
    list_display = ("model_subscription", "period_start", "period_end", "limit", "settled", "held")
    list_select_related = ("model_subscription__tenant", "model_subscription__model", "model_subscription__plan")
    search_fields = ("=model_subscription__tenant__slug", "=model_subscription__model__name")


@admin.register(Hold)
class HoldAdmin(EndlessAdmin):
    list_display = (
        "id",
        "tenant",
        "version",
        "state",
        "released_because",
        "units",
        "charged",
        "created_at",
        "latency_ms",
    )
    list_filter = ("state",)
    list_select_related = ("tenant", "version__model")
    search_fields = ("=tenant__slug", "=idempotency_key")
    exclude = ("request_digest", "answer_digest")


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EndlessAdmin):
    list_display = ("id", "kind", "account", "tenant", "units", "amount", "currency", "created_at")
    list_filter = ("kind", "account")
    list_select_related = ("tenant",)
    search_fields = ("=tenant__slug",)
