"""Which tenants may use a private model, and what becomes of their subscriptions when they no longer may."""

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils.translation import gettext as _
from guardian.shortcuts import assign_perm, remove_perm

from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel, Visibility
from marketplace.errors import NotFound
from marketplace.tenants.models import Tenant

from .models import ModelSubscription, ModelSubscriptionStatus


def _require_publisher(principal: Principal, model: MLModel) -> None:
    principal.require(Permission.PUBLISH)
    if model.publisher_id != principal.tenant_id:
        raise NotFound(_("There is no such object, or it is not yours to see."), path="input.model")


@transaction.atomic
def grant(principal: Principal, *, model: MLModel, tenant: Tenant) -> None:
    """Lets the tenant see and subscribe to a private model; a subscription suspended by `withdraw` comes back."""
    _require_publisher(principal, model)
    assign_perm("catalog.use_mlmodel", tenant.group, model)
    ModelSubscription.objects.filter(model=model, tenant=tenant, status=ModelSubscriptionStatus.SUSPENDED).update(
        status=ModelSubscriptionStatus.ACTIVE
    )


@transaction.atomic
def follow(principal: Principal, *, model: MLModel) -> None:
    """What a changed visibility is to subscribers: they keep a model that is private now, and get a public one back."""
    _require_publisher(principal, model)
    contracts = ModelSubscription.objects.filter(model=model)
    if model.visibility == Visibility.PUBLIC:
        contracts.filter(status=ModelSubscriptionStatus.SUSPENDED).update(status=ModelSubscriptionStatus.ACTIVE)
    else:
        active = contracts.filter(status=ModelSubscriptionStatus.ACTIVE).values("tenant__group")
        assign_perm("catalog.use_mlmodel", Group.objects.filter(pk__in=active), model)


@transaction.atomic
def withdraw(principal: Principal, *, model: MLModel, tenant: Tenant) -> None:
    """Hides a private model from the tenant again and suspends its subscription: calls are refused from now on."""
    _require_publisher(principal, model)
    remove_perm("catalog.use_mlmodel", tenant.group, model)
    if model.visibility == Visibility.PUBLIC:
        return  # everybody may use it all the same
    ModelSubscription.objects.filter(model=model, tenant=tenant, status=ModelSubscriptionStatus.ACTIVE).update(
        status=ModelSubscriptionStatus.SUSPENDED
    )
