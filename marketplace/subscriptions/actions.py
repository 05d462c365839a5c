"""What tenants do with plans: subscribe, or ask to; change plan, cancel."""

from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.catalog.models import MLModel
from marketplace.errors import PermissionDenied, ValidationProblem
from marketplace.texts import checked_text

from .models import (
    ModelSubscription,
    ModelSubscriptionRequest,
    ModelSubscriptionStatus,
    Plan,
    RequestStatus,
)


@transaction.atomic
def subscribe(principal: Principal, *, model_ref: str, plan_id: UUID) -> ModelSubscription:
    """Active from now on; on a model that the tenant has a subscription to, a change of plan. Idempotent.

    Raises PermissionDenied for a plan that is given on request.
    """
    tenant_id, plan = _offered(principal, model_ref, plan_id)
    if _is_on_request(plan, tenant_id):
        raise PermissionDenied(_("This plan is given on request: ask its publisher for it."), path="input.plan")
    return activate(tenant_id=tenant_id, plan=plan)


@transaction.atomic
def subscribe_or_ask(
    principal: Principal, *, model_ref: str, plan_id: UUID, message: str = ""
) -> ModelSubscription | ModelSubscriptionRequest:
    """As `subscribe`; of a plan that is given on request, the request, with a message of at most 2,000 characters.

    Asking again while the publisher has not decided changes the plan that is asked for, and the message.
    """
    tenant_id, plan = _offered(principal, model_ref, plan_id)
    if not _is_on_request(plan, tenant_id):
        return activate(tenant_id=tenant_id, plan=plan)
    request, _created = ModelSubscriptionRequest.objects.pending().update_or_create(
        tenant_id=tenant_id,
        model_id=plan.model_id,
        status=RequestStatus.PENDING,
        defaults={"plan": plan, "message": checked_text(message, path="input.message")},
    )
    return request


@transaction.atomic
def withdraw_request(principal: Principal, *, request_id: UUID) -> ModelSubscriptionRequest:
    """The tenant asks no longer. Withdrawing twice changes nothing; what is decided stays decided."""
    request: ModelSubscriptionRequest = find(
        ModelSubscriptionRequest.objects,
        principal,
        Permission.MANAGE_SUBSCRIPTIONS,
        path="input.modelSubscriptionRequest",
        lock=True,
        pk=request_id,
    )
    if request.status == RequestStatus.PENDING:
        request.status, request.decided_at = RequestStatus.WITHDRAWN, timezone.now()
        request.save(update_fields=["status", "decided_at"])
    elif request.status != RequestStatus.WITHDRAWN:
        raise ValidationProblem(
            _("The publisher has decided already: “%(status)s”.") % {"status": request.get_status_display()},
            path="input.modelSubscriptionRequest",
        )
    return request


def activate(*, tenant_id: UUID, plan: Plan) -> ModelSubscription:
    """The tenant's contract on this plan, new or changed. Needs a transaction; asks nobody's leave."""
    subscription, created = ModelSubscription.objects.select_for_update().get_or_create(
        tenant_id=tenant_id, model_id=plan.model_id, defaults={"plan": plan}
    )
    if subscription.status == ModelSubscriptionStatus.SUSPENDED:
        raise PermissionDenied(
            _("Your subscription to this model is suspended. Only its publisher can bring it back."), path="input.model"
        )
    if created or subscription.status == ModelSubscriptionStatus.CANCELLED:
        MLModel.objects.filter(pk=plan.model_id).update(subscriber_count=F("subscriber_count") + 1)
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


def _offered(principal: Principal, model_ref: str, plan_id: UUID) -> tuple[UUID, Plan]:
    """The tenant that subscribes, and the plan, locked: its publisher changes the terms before this or after it."""
    model = find(MLModel.objects.by_ref(model_ref), principal, Permission.MANAGE_SUBSCRIPTIONS, path="input.model")
    plan = find(Plan.objects.filter(model=model).on_offer(), principal, path="input.plan", lock=True, pk=plan_id)
    assert principal.tenant_id is not None
    if model.publisher_id == principal.tenant_id:
        raise ValidationProblem(
            _("This model is your own: you invoke it without a subscription, at no charge."), path="input.model"
        )
    return principal.tenant_id, plan


def _is_on_request(plan: Plan, tenant_id: UUID) -> bool:
    """Whoever is on an earlier form of the plan was let in already."""
    active = ModelSubscription.objects.filter(tenant_id=tenant_id, status=ModelSubscriptionStatus.ACTIVE)
    return plan.requires_approval and not active.filter(plan__line=plan.line).exists()
