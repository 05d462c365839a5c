"""A subscriber's own choice of the version that answers."""

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.errors import ValidationProblem

from .models import ModelSubscription, ModelSubscriptionStatus


@transaction.atomic
def pin(principal: Principal, *, subscription_id: UUID, version_id: UUID | None) -> ModelSubscription:
    """That version answers the tenant's calls that name none, whatever is released meanwhile; None: the live one again.

    Its publisher cannot retire it before a sunset that was announced; once it is retired, the live version answers.
    """
    subscription: ModelSubscription = find(
        ModelSubscription.objects,
        principal,
        Permission.MANAGE_SUBSCRIPTIONS,
        path="input.modelSubscription",
        lock=True,
        pk=subscription_id,
    )
    if subscription.status == ModelSubscriptionStatus.CANCELLED:
        raise ValidationProblem(
            _("This subscription is cancelled: subscribe again first."), path="input.modelSubscription"
        )
    version = None
    if version_id is not None:
        # Under this lock alone versions change their status: it is not being retired meanwhile.
        model = MLModel.objects.select_for_update().get(pk=subscription.model_id)
        version = find(
            ModelVersion.objects.callable_by(principal).filter(model=model),
            principal,
            path="input.modelVersion",
            pk=version_id,
        )
    subscription.pinned_version = version
    subscription.save(update_fields=["pinned_version"])
    return subscription
