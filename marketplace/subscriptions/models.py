"""What publishers offer, and which tenant has taken it."""

from decimal import Decimal
from typing import Any, TypedDict

import uuid_utils.compat as uuid
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.catalog.queries import visible_models
from marketplace.tenants.models import Tenant
from marketplace.texts import MAX_TEXT

MAX_UNITS = Decimal("1e15")
# The output by which a model says how many tokens a call took: integers, one for each text or all in one.
TOKEN_COUNT = "token_count"  # noqa: S105  (a tensor's name)


class Precision(TypedDict):
    max_digits: int
    decimal_places: int


UNITS: Precision = {"max_digits": 24, "decimal_places": 6}
MONEY: Precision = {"max_digits": 24, "decimal_places": 9}


class PlanQuerySet(models.QuerySet["Plan"]):
    def visible_to(self, principal: Principal) -> "PlanQuerySet":
        """What is on offer for a model one may see; a publisher also sees what it hid, a subscriber what it holds,
        with what became of it."""
        offered = Q(hidden_at=None, successor=None) & visible_models(principal, "model__")
        if principal.tenant_id is None:
            return self.filter(offered)
        held = ModelSubscription.objects.filter(tenant_id=principal.tenant_id).values("plan__line")
        return self.filter(offered | Q(model__publisher_id=principal.tenant_id) | Q(line__in=held))

    def latest_terms(self) -> "PlanQuerySet":
        """One row of each line: the one that nobody has changed since."""
        return self.filter(successor=None)

    def on_offer(self) -> "PlanQuerySet":
        return self.latest_terms().filter(hidden_at=None)


class MeteredUnit(models.TextChoices):
    """What one unit of a plan is."""

    CALL = "CALL", _("Call")
    # Of all input tensors together, as their shapes say.
    ELEMENT = "ELEMENT", _("Element of the input")
    # From sending the request to the model until its answer is here, in whole milliseconds.
    SECOND = "SECOND", _("Second of compute")
    # As the model counts them, in its output TOKEN_COUNT.
    TOKEN = "TOKEN", _("Token")


class Plan(models.Model):
    """An offer, in one form of its terms, which never change: changed terms are a further row, its successor.

    Whoever subscribes takes the latest terms of a line. In a period that begins from `successor_from` on, the
    successor's hold for who was on these: `metering_terms(plan, period start)` in metering/migrations/batches.sql.
    """

    TERMS = (
        *("price", "currency", "unit", "included_units", "overage_price"),
        *("requests_per_second", "burst", "max_concurrency", "max_tokens_per_call"),
    )

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    # What a plan and all that became of it have in common.
    line = models.UUIDField(db_index=True, editable=False)
    successor = models.OneToOneField(
        "self", on_delete=models.RESTRICT, null=True, blank=True, editable=False, related_name="predecessor"
    )
    successor_from = models.DateTimeField(_("successor from"), null=True, blank=True, editable=False)
    model = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="plans", verbose_name=_("model"))
    name = models.CharField(_("name"), max_length=60)
    price = models.DecimalField(
        _("price"), **MONEY, default=Decimal(0), validators=[MinValueValidator(0)], help_text=_("Per month.")
    )
    currency = models.CharField(_("currency"), max_length=3, default="USD", help_text=_("ISO 4217, as in USD."))
    unit = models.CharField(
        _("metered unit"),
        max_length=8,
        choices=MeteredUnit.choices,
        default=MeteredUnit.CALL,
        help_text=_(
            "What is counted: calls, elements of the input tensors, seconds that the model takes, or tokens as the "
            "model counts them in its output token_count."
        ),
    )
    included_units = models.DecimalField(
        _("included units"), **UNITS, validators=[MinValueValidator(0)], help_text=_("Per month.")
    )
    overage_price = models.DecimalField(
        _("price per further unit"),
        **MONEY,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("Left empty, calls past the included units are refused."),
    )
    requests_per_second = models.PositiveIntegerField(_("requests per second"), validators=[MinValueValidator(1)])
    burst = models.PositiveIntegerField(
        _("burst"), validators=[MinValueValidator(1)], help_text=_("How many calls may come at once.")
    )
    max_concurrency = models.PositiveIntegerField(
        _("concurrent calls"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How many calls may run at the same time. Left empty, as many as the rate lets through."),
    )
    max_tokens_per_call = models.PositiveIntegerField(
        _("tokens per call, at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("For plans by token: as many are set aside while a call runs, and no call is charged more."),
    )
    requires_approval = models.BooleanField(
        _("on request"),
        default=False,
        help_text=_("Tenants ask for it, and you decide. Who is on it already is not asked again."),
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    hidden_at = models.DateTimeField(_("hidden"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = PlanQuerySet.as_manager()

    class Meta:
        verbose_name = _("plan")
        verbose_name_plural = _("plans")
        ordering = ["position", "created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "name"], condition=Q(successor=None), name="one_plan_per_model_and_name"
            ),
            models.CheckConstraint(
                condition=Q(successor=None, successor_from=None)
                | Q(successor__isnull=False, successor_from__isnull=False),
                name="successor_has_its_time",
            ),
            models.CheckConstraint(
                condition=Q(requests_per_second__gte=1, burst__gte=1, included_units__gte=0, price__gte=0),
                name="plan_is_sane",
            ),
            models.CheckConstraint(
                condition=~Q(unit=MeteredUnit.TOKEN) | Q(max_tokens_per_call__isnull=False),
                name="tokens_have_a_most",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.line = self.line or self.pk
        super().save(*args, **kwargs)

    @property
    def terms(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.TERMS}


class ModelSubscriptionStatus(models.TextChoices):
    ACTIVE = "ACTIVE", _("Active")
    CANCELLED = "CANCELLED", _("Cancelled")
    SUSPENDED = "SUSPENDED", _("Suspended")


class ModelSubscriptionQuerySet(models.QuerySet["ModelSubscription"]):
    def visible_to(self, principal: Principal) -> "ModelSubscriptionQuerySet":
        """A tenant's own contracts. The publisher sees who subscribed through `of_publisher`."""
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()

    def of_publisher(self, principal: Principal) -> "ModelSubscriptionQuerySet":
        return self.filter(model__publisher_id=principal.tenant_id) if principal.tenant_id else self.none()

    def current(self) -> "ModelSubscriptionQuerySet":
        return self.exclude(status=ModelSubscriptionStatus.CANCELLED)


class ModelSubscription(models.Model):
    """A tenant's contract on a plan: one row per tenant and model, for good.

    Subscribing again reactivates it, periods and counters included: cancelling must not bring a used quota back.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="model_subscriptions")
    model = models.ForeignKey(MLModel, on_delete=models.PROTECT, related_name="model_subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="model_subscriptions")
    status = models.CharField(
        _("status"), max_length=10, choices=ModelSubscriptionStatus.choices, default=ModelSubscriptionStatus.ACTIVE
    )
    # Periods are months counted from here.
    created_at = models.DateTimeField(_("subscribed"), default=timezone.now, editable=False)
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True, editable=False)
    # Answers the tenant's calls that name no version, whatever is released meanwhile.
    pinned_version = models.ForeignKey(
        "catalog.ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    objects = ModelSubscriptionQuerySet.as_manager()

    class Meta:
        verbose_name = _("model subscription")
        verbose_name_plural = _("model subscriptions")
        constraints = [
            models.UniqueConstraint(fields=["tenant", "model"], name="one_subscription_per_tenant_and_model"),
        ]
        indexes = [
            models.Index(fields=["tenant", "-created_at", "-id"], name="subscription_by_tenant"),
            models.Index(fields=["model", "-created_at", "-id"], name="subscription_by_model"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} · {self.model} · {self.plan}"


class RequestStatus(models.TextChoices):
    PENDING = "PENDING", _("Waiting")
    APPROVED = "APPROVED", _("Approved")
    DECLINED = "DECLINED", _("Declined")
    WITHDRAWN = "WITHDRAWN", _("Withdrawn")


class ModelSubscriptionRequestQuerySet(models.QuerySet["ModelSubscriptionRequest"]):
    def visible_to(self, principal: Principal) -> "ModelSubscriptionRequestQuerySet":
        """What the tenant has asked for. The publisher sees who asks through `of_publisher`."""
        return self.filter(tenant_id=principal.tenant_id) if principal.tenant_id else self.none()

    def of_publisher(self, principal: Principal) -> "ModelSubscriptionRequestQuerySet":
        return self.filter(model__publisher_id=principal.tenant_id) if principal.tenant_id else self.none()

    def visible_to_either(self, principal: Principal) -> "ModelSubscriptionRequestQuerySet":
        return self.visible_to(principal) | self.of_publisher(principal)

    def pending(self) -> "ModelSubscriptionRequestQuerySet":
        return self.filter(status=RequestStatus.PENDING)


class ModelSubscriptionRequest(models.Model):
    """A tenant's wish for a plan that its publisher gives on request. At most one of a tenant waits for each model."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="model_subscription_requests")
    model = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="model_subscription_requests")
    plan = models.ForeignKey(Plan, on_delete=models.RESTRICT, related_name="model_subscription_requests")
    status = models.CharField(
        _("status"), max_length=9, choices=RequestStatus.choices, default=RequestStatus.PENDING, editable=False
    )
    message = models.TextField(_("message"), blank=True, max_length=MAX_TEXT)
    # The publisher's, for the tenant to read.
    reason = models.TextField(_("reason"), blank=True, max_length=MAX_TEXT)
    created_at = models.DateTimeField(_("asked"), default=timezone.now, editable=False)
    decided_at = models.DateTimeField(_("decided"), null=True, editable=False)

    objects = ModelSubscriptionRequestQuerySet.as_manager()

    class Meta:
        verbose_name = _("subscription request")
        verbose_name_plural = _("subscription requests")
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "model"], condition=Q(status="PENDING"), name="one_request_waits_per_tenant_and_model"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="request_by_tenant"),
            models.Index(fields=["model", "-id"], name="request_by_model"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} · {self.model} · {self.plan}"


class DailyUsage(models.Model):
    """What a tenant's calls of a model on one plan came to on one day, UTC: the sum of the ledger's publisher entries.

    Counted on from the ledger (inference/usage.py), so a minute or two behind it; a refund counts on its own day.
    `plan` is null for a publisher's calls of its own models.
    """

    id = models.BigAutoField(primary_key=True)
    model = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="daily_usage", db_index=False)
    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    day = models.DateField(_("day (UTC)"))
    currency = models.CharField(_("currency"), max_length=3)
    calls = models.BigIntegerField(_("calls"))
    units = models.DecimalField(_("units"), **UNITS)
    # For what went past the included units.
    amount = models.DecimalField(_("revenue"), **MONEY)

    class Meta:
        verbose_name = _("daily usage")
        verbose_name_plural = _("usage and revenue")
        constraints = [
            models.UniqueConstraint(
                fields=["model", "day", "tenant", "plan", "currency"],
                nulls_distinct=False,
                name="one_usage_per_model_day_tenant_and_plan",
            )
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.model}, {self.tenant}"
