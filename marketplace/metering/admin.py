"""The exact part, for the operator to look at. Only the functions in migrations/batches.sql write it."""

from django.contrib import admin
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from marketplace.console import EndlessAdmin

from .models import Budget, Hold, LedgerEntry, Quota, Spending


@admin.register(Quota)
class QuotaAdmin(EndlessAdmin):
    list_display = ("model_subscription", "period_start", "period_end", "limit", "settled", "held", "running")
    list_select_related = ("model_subscription__tenant", "model_subscription__model", "model_subscription__plan")
    search_fields = ("=model_subscription__tenant__slug", "=model_subscription__model__name")


@admin.register(Budget)
class BudgetAdmin(EndlessAdmin):
    list_display = ("tenant", "api_key", "amount", "currency", "is_in_force")
    list_filter = ("currency",)
    list_select_related = ("tenant", "api_key")
    search_fields = ("=tenant__slug", "=api_key__prefix")

    @admin.display(description=_("in force"), boolean=True)
    def is_in_force(self, budget: Budget) -> bool:
        return budget.amount is not None


@admin.register(Spending)
class SpendingAdmin(EndlessAdmin):
    list_display = ("tenant", "api_key", "currency", "period_start", "limit", "settled", "held")
    list_select_related = ("budget__tenant", "budget__api_key")
    search_fields = ("=budget__tenant__slug", "=budget__api_key__prefix")

    @admin.display(description=_("tenant"))
    def tenant(self, spending: Spending) -> str:
        return str(spending.budget.tenant)

    @admin.display(description=_("API key"))
    def api_key(self, spending: Spending) -> str | None:
        return str(spending.budget.api_key) if spending.budget.api_key else None

    @admin.display(description=_("currency"))
    def currency(self, spending: Spending) -> str:
        return spending.budget.currency


@admin.register(Hold)
class HoldAdmin(EndlessAdmin):
    list_display = (
        "id",
        "tenant",
        "version",
        "state",
        "released_because",
        "unit",
        "units",
        "charged",
        "price",
        "created_at",
        "latency_ms",
    )
    list_filter = ("state",)
    list_select_related = ("tenant", "version__model")
    search_fields = ("=tenant__slug", "=idempotency_key")
    exclude = ("plan", "request_digest", "answer_digest")
    readonly_fields = ("terms",)

    @admin.display(description=_("terms"))
    def terms(self, hold: Hold) -> str:
        """Of the plan that it was admitted on, whichever the subscription has now."""
        plan = hold.plan
        if plan is None:
            return gettext("The publisher's own model: no plan, no charge.")
        overage = (
            gettext("refused")
            if plan.overage_price is None
            else f"{plan.overage_price.normalize():f} {plan.currency} ({plan.get_unit_display()})"
        )
        return gettext("%(plan)s. Included: %(included)s (%(unit)s). Past them: %(overage)s.") % {
            "plan": plan,
            "included": f"{plan.included_units.normalize():f}",
            "unit": plan.get_unit_display(),
            "overage": overage,
        }


@admin.register(LedgerEntry)
class LedgerEntryAdmin(EndlessAdmin):
    list_display = ("id", "kind", "account", "tenant", "units", "amount", "currency", "created_at")
    list_filter = ("kind", "account")
    list_select_related = ("tenant",)
    search_fields = ("=tenant__slug",)
