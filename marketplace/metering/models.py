"""The exact part: what a tenant may still use, what is set aside, what was charged.

Written only by the functions in migrations/batches.sql, each of them one transaction; read through Django.
"""

from typing import TypedDict

import uuid_utils.compat as uuid
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.subscriptions.models import MONEY, UNITS, MeteredUnit, ModelSubscription, Plan
from marketplace.tenants.models import ApiKey, Tenant, User


class _Unchecked(TypedDict):
    db_constraint: bool


# PostgreSQL would look up, and lock, each row that a new row names: a third of a call's time in it. The functions
# have read those rows in the same transaction, and nothing that was ever metered is deleted.
UNCHECKED: _Unchecked = {"db_constraint": False}


class QuotaQuerySet(models.QuerySet["Quota"]):
    def visible_to(self, principal: Principal) -> "QuotaQuerySet":
        return self.filter(model_subscription__tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class Quota(models.Model):
    """One period of one subscription, in units. At every instant: limit = settled + held + remaining."""

    id = models.BigAutoField(primary_key=True)
    model_subscription = models.ForeignKey(ModelSubscription, on_delete=models.PROTECT, related_name="quotas")
    period_start = models.DateTimeField(_("period start"))
    period_end = models.DateTimeField(_("period end"))
    limit = models.DecimalField(_("limit"), **UNITS, db_column="unit_limit")
    settled = models.DecimalField(_("settled"), **UNITS, db_default=0)
    held = models.DecimalField(_("held"), **UNITS, db_default=0)
    # Calls under way: what the plan's concurrency is about.
    running = models.IntegerField(_("running calls"), db_default=0)
    # The rate limit's one number (GCRA, ITU-T I.371): when the next call would be due at exactly the plan's rate.
    theoretical_arrival = models.DateTimeField(null=True)

    objects = QuotaQuerySet.as_manager()

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        constraints = [
            models.UniqueConstraint(fields=["model_subscription", "period_start"], name="one_quota_per_period"),
            models.CheckConstraint(
                condition=Q(settled__gte=0, held__gte=0, running__gte=0, limit__gte=F("settled") + F("held")),
                name="quota_is_never_over",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.settled} + {self.held} / {self.limit}"


class BudgetQuerySet(models.QuerySet["Budget"]):
    def visible_to(self, principal: Principal) -> "BudgetQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class Budget(models.Model):
    """What a tenant (its spending cap) or one of its API keys may spend on overage in a calendar month, UTC."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="budgets")
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, related_name="budgets")
    # Null once it was removed: no limit.
    amount = models.DecimalField(_("amount"), **MONEY, null=True, validators=[MinValueValidator(0)])
    currency = models.CharField(_("currency"), max_length=3)

    objects = BudgetQuerySet.as_manager()

    class Meta:
        verbose_name = _("budget")
        verbose_name_plural = _("budgets")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "currency"], condition=Q(api_key=None), name="one_spending_cap_per_currency"
            ),
            models.UniqueConstraint(fields=["api_key", "currency"], name="one_key_budget_per_currency"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="budget_is_sane"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


class Spending(models.Model):
    """One month of one budget, in its currency. At every instant: limit = settled + held + remaining.

    A call counts with the price it had when it was admitted, so that the bill never says more than this does.
    """

    id = models.BigAutoField(primary_key=True)
    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="spendings")
    period_start = models.DateTimeField(_("period start"))
    period_end = models.DateTimeField(_("period end"))
    limit = models.DecimalField(_("limit"), **MONEY, db_column="amount_limit")
    settled = models.DecimalField(_("settled"), **MONEY, db_default=0)
    held = models.DecimalField(_("held"), **MONEY, db_default=0)

    class Meta:
        verbose_name = _("spending")
        verbose_name_plural = _("spendings")
        constraints = [
            models.UniqueConstraint(fields=["budget", "period_start"], name="one_spending_per_month"),
            models.CheckConstraint(
                condition=Q(settled__gte=0, held__gte=0, limit__gte=F("settled") + F("held")),
                name="budget_is_never_over",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.settled} + {self.held} / {self.limit}"


class HoldState(models.TextChoices):
    HELD = "held", _("Held")
    # It has outlived its first lease: a heartbeat extends it.
    EXECUTING = "executing", _("Executing")
    SETTLED = "settled", _("Settled")
    RELEASED = "released", _("Released")


class HoldQuerySet(models.QuerySet["Hold"]):
    def visible_to(self, principal: Principal) -> "HoldQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class Hold(models.Model):
    """An admitted invocation and the units set aside for it. GraphQL's `Invocation` is this row.

    `released_because` is the code of the problem the caller was told, or CANCELLED, EXPIRED or UNDELIVERED.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="holds", db_index=False, **UNCHECKED)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="holds", db_index=False, **UNCHECKED
    )
    quota = models.ForeignKey(
        Quota, on_delete=models.PROTECT, null=True, related_name="holds", db_index=False, **UNCHECKED
    )
    # The terms it was admitted on, whatever the subscription's plan becomes meanwhile.
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, related_name="+", db_index=False, **UNCHECKED)
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, **UNCHECKED
    )
    user = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, **UNCHECKED)
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  (null is "none", and is not unique)
    # SHA-256, as inference/tensors/identity.py takes them.
    request_digest = models.BinaryField(max_length=32, null=True)
    answer_digest = models.BinaryField(max_length=32, null=True)
    unit = models.CharField(_("metered unit"), max_length=8, choices=MeteredUnit.choices, default=MeteredUnit.CALL)
    units = models.DecimalField(_("units held"), **UNITS)
    charged = models.DecimalField(_("units charged"), **UNITS, db_default=0)
    # What it counts for the tenant's spending cap and its key's budget, and where.
    price = models.DecimalField(_("price"), **MONEY, db_default=0)
    spending = models.ForeignKey(
        Spending, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, **UNCHECKED
    )
    key_spending = models.ForeignKey(
        Spending, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False, **UNCHECKED
    )
    state = models.CharField(_("state"), max_length=9, choices=HoldState.choices, db_default=HoldState.HELD)
    released_because = models.CharField(max_length=32, blank=True, db_default="")
    created_at = models.DateTimeField(_("created"))
    expires_at = models.DateTimeField(_("expires"))
    finished_at = models.DateTimeField(_("finished"), null=True)
    latency_ms = models.FloatField(_("latency in ms"), null=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        verbose_name = _("hold")
        verbose_name_plural = _("holds")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                # A hold without a key, as most are, has no place in the index.
                condition=~Q(state="released") & Q(idempotency_key__isnull=False),
                name="one_hold_per_idempotency_key",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="hold_by_tenant"),
            models.Index(fields=["expires_at"], condition=Q(state__in=("held", "executing")), name="hold_by_expiry"),
            # Usage reconciliation counts on from where it last stopped. NULL is what has not finished.
            models.Index(fields=["finished_at"], name="hold_by_finish"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"


class LedgerKind(models.TextChoices):
    CHARGE = "charge", _("Charge")
    # Of a charge whose answer was never delivered.
    REFUND = "refund", _("Refund")


class Account(models.TextChoices):
    CONSUMER = "consumer", _("Consumer")
    PUBLISHER = "publisher", _("Publisher")


class LedgerEntryQuerySet(models.QuerySet["LedgerEntry"]):
    def visible_to(self, principal: Principal) -> "LedgerEntryQuerySet":
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()


class LedgerEntry(models.Model):
    """Half of a double entry: what the consumer gives (negative) the publisher gets. A trigger keeps it append-only."""

    id = models.BigAutoField(primary_key=True)
    hold = models.ForeignKey(Hold, on_delete=models.PROTECT, related_name="entries", db_index=False, **UNCHECKED)
    kind = models.CharField(max_length=16, choices=LedgerKind.choices)
    account = models.CharField(max_length=16, choices=Account.choices)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, related_name="ledger_entries", db_index=False, **UNCHECKED
    )
    units = models.DecimalField(_("units"), **UNITS)
    amount = models.DecimalField(_("amount"), **MONEY)
    currency = models.CharField(_("currency"), max_length=3)
    created_at = models.DateTimeField(_("created"))

    objects = LedgerEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")
        constraints = [
            models.UniqueConstraint(fields=["hold", "kind", "account"], name="one_entry_per_hold_kind_and_account")
        ]
        indexes = [models.Index(fields=["tenant", "-id"], name="entry_by_tenant")]

    def __str__(self) -> str:
        return f"{self.account} {self.units} ({self.amount} {self.currency})"


class StoredAnswer(models.Model):
    """The outputs of a call that carried an idempotency key, so that its retry gets the same answer. Packed tensors."""

    hold = models.OneToOneField(
        Hold, on_delete=models.CASCADE, primary_key=True, related_name="stored_answer", **UNCHECKED
    )
    content = models.BinaryField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("stored answer")
        verbose_name_plural = _("stored answers")

    def __str__(self) -> str:
        return str(self.hold_id)
