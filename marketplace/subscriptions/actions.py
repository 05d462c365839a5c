"""What tenants do with plans: subscribe, change plan, cancel."""

from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.catalog.models import MLModel
from marketplace.errors import PermissionDenied, ValidationProblem

from .models import ModelSubscription, ModelSubscriptionStatus, Plan


@transaction.atomic
def subscribe(principal: Principal, *, model_ref: str, plan_id: UUID) -> ModelSubscription:
    """Active from now on; on a model that the tenant has a subscription to, a change of plan. Idempotent."""
    model = find(MLModel.objects.by_ref(model_ref), principal, Permission.MANAGE_SUBSCRIPTIONS, path="input.model")
    # Locked, so that these are the terms that it is on: its publisher changes them before this or after it.
    plan = find(Plan.objects.filter(model=model).on_offer(), principal, path="input.plan", lock=True, pk=plan_id)
    assert principal.tenant_id is not None
    if model.publisher_id == principal.tenant_id:
        raise ValidationProblem(
            _("This model is your own: you invoke it without a subscription, at no charge."), path="input.model"
        )
    subscription, created = ModelSubscription.objects.select_for_update().get_or_create(
        tenant_id=principal.tenant_id, model=model, defaults={"plan": plan}
    )
    if subscription.status == ModelSubscriptionStatus.SUSPENDED:
        raise PermissionDenied(
            _("Your subscription to this model is suspended. Only its publisher can bring it back."), path="input.model"
        )
    if created or subscription.status == ModelSubscriptionStatus.CANCELLED:
        MLModel.objects.filter(pk=model.pk).update(subscriber_count=F("subscriber_count") + 1)
    if not created:
        subscription.plan = plan
        subscription.status = ModelSubscriptionStatus.ACTIVE
        subscription.cancelled_at = None
        subscription.save(update_fields=["plan", "status", "cancelled_at"])
    return subscription


@transaction.atomic
def cancel(principal: Principal, *, subscription_id: UUID) -> ModelSubscription:
    """Calls are refused from the next one on. Cancelling twice changes nothing."""
    subscription: ModelSubscription = find(
        ModelSubscription.objects,
        principal,
        Permission.MANAGE_SUBSCRIPTIONS,
        path="input.modelSubscription",
        lock=True,
        pk=subscription_id,
    )
    if subscription.status != ModelSubscriptionStatus.CANCELLED:
        subscription.status = ModelSubscriptionStatus.CANCELLED
        subscription.cancelled_at = timezone.now()
        subscription.save(update_fields=["status", "cancelled_at"])
        MLModel.objects.filter(pk=subscription.model_id).update(subscriber_count=F("subscriber_count") - 1)
    return subscription
