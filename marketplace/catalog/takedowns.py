"""What the operator takes out of the marketplace, and puts back.

Holds for calls from the next admission on. What is under way has until its next heartbeat (metering_extend): short
calls come to their end, a stream is cut within seconds, and what its caller has taken of it is charged as ever.
"""

from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.errors import NotFound, PermissionDenied, TakenDown
from marketplace.tenants.models import User
from marketplace.texts import checked_text

from .models import MLModel, ReleaseEvent, ReleaseEventKind


@transaction.atomic
def take_down(staff: User, *, model_id: UUID, reason: str) -> MLModel:
    """Nobody can call it any more; only its publisher and its subscribers still see it, and why.

    A release under way is called off. Taking down twice changes the reason.
    """
    model = _model(staff, model_id)
    reason = checked_text(
        reason, path="input.reason", required=_("Say why: the publisher and the subscribers read it.")
    )
    if model.taken_down_at is not None and model.takedown_reason == reason:
        return model
    model.taken_down_at = model.taken_down_at or timezone.now()
    model.takedown_reason = reason
    if model.releasing_version_id is not None:
        ReleaseEvent.objects.create(
            model=model,
            kind=ReleaseEventKind.CALLED_OFF,
            version_id=model.releasing_version_id,
            percent=model.releasing_percent,
            user=staff,
        )
    model.releasing_version = model.releasing_percent = None
    model.save(update_fields=["taken_down_at", "takedown_reason", "releasing_version", "releasing_percent"])
    ReleaseEvent.objects.create(model=model, kind=ReleaseEventKind.TAKEN_DOWN, reason=reason, user=staff)
    return model


@transaction.atomic
def restore(staff: User, *, model_id: UUID) -> MLModel:
    """Everything is as it was before. Restoring twice changes nothing."""
    model = _model(staff, model_id)
    if model.taken_down_at is None:
        return model
    model.taken_down_at, model.takedown_reason = None, ""
    model.save(update_fields=["taken_down_at", "takedown_reason"])
    ReleaseEvent.objects.create(model=model, kind=ReleaseEventKind.RESTORED, user=staff)
    return model


def require_standing(model: MLModel) -> None:
    """Raises TakenDown, with the reason: nothing of it can be called or released. Join the publisher beforehand."""
    if model.taken_down_at is not None:
        raise TakenDown(_told(model), path="input.model")


def _told(model: MLModel) -> str:
    return _("The operator of this marketplace has taken %(ref)s down: %(reason)s") % {
        "ref": model.ref,
        "reason": model.takedown_reason,
    }


def _model(staff: User, model_id: UUID) -> MLModel:
    if not (staff.is_active and staff.is_staff and staff.has_perm("catalog.change_mlmodel")):
        raise PermissionDenied(_("Only operators who may change models take them down and restore them."))
    model = MLModel.objects.select_for_update(of=("self",)).select_related("publisher").filter(pk=model_id).first()
    if model is None:
        raise NotFound(_("There is no such object, or it is not yours to see."), path="input.model")
    return model
