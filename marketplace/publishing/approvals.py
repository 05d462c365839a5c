"""Who may subscribe to a plan that is given on request: the publisher decides, once."""

from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel
from marketplace.errors import NotFound, ValidationProblem
from marketplace.subscriptions.actions import activate
from marketplace.subscriptions.models import ModelSubscriptionRequest, Plan, RequestStatus
from marketplace.texts import checked_text

from .ownership import require_publisher

_PATH = "input.modelSubscriptionRequest"


@transaction.atomic
def approve_request(principal: Principal, *, request_id: UUID) -> ModelSubscriptionRequest:
    """The tenant is subscribed from now on. Approving twice changes nothing, and what was declined stays so."""
    request = _own_request(principal, request_id)
    if request.status == RequestStatus.APPROVED:
        return request
    _require_pending(request)
    if request.plan.successor_id is not None:
        raise ValidationProblem(
            _("The terms have changed since the tenant asked: decline, so that it can ask on the new ones."), path=_PATH
        )
    tenant = Principal(tenant_id=request.tenant_id, group_id=request.tenant.group_id)
    if not MLModel.objects.visible_to(tenant).filter(pk=request.model_id).exists():
        raise ValidationProblem(_("The tenant can no longer see this model: give it access first."), path=_PATH)
    activate(tenant_id=request.tenant_id, plan=request.plan)
    return _decided(request, RequestStatus.APPROVED)


@transaction.atomic
def decline_request(principal: Principal, *, request_id: UUID, reason: str) -> ModelSubscriptionRequest:
    """The tenant reads the reason. Declining twice keeps the first one, and what was approved stays so."""
    request = _own_request(principal, request_id)
    if request.status == RequestStatus.DECLINED:
        return request
    _require_pending(request)
    request.reason = checked_text(reason, path="input.reason", required=_("Say why: the tenant reads it."))
    return _decided(request, RequestStatus.DECLINED)


def _own_request(principal: Principal, request_id: UUID) -> ModelSubscriptionRequest:
    """Locked, its plan before it, as who asks does. Another publisher's answers as a missing one."""
    rows = ModelSubscriptionRequest.objects.of_publisher(principal).filter(pk=request_id)
    plan_id = rows.values_list("plan", flat=True).first()
    if plan_id is None:
        if principal.tenant_id is None:
            principal.require(Permission.PUBLISH)
        raise NotFound(_("There is no such object, or it is not yours to see."), path=_PATH)
    require_publisher(principal)
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    request = rows.select_related("tenant", "model").select_for_update(of=("self",)).get()
    if request.plan_id != plan.pk:
        raise ValidationProblem(_("The tenant has asked for another plan just now: look again."), path=_PATH)
    request.plan = plan
    return request


def _require_pending(request: ModelSubscriptionRequest) -> None:
    if request.status != RequestStatus.PENDING:
        raise ValidationProblem(
            _("This request is decided already: “%(status)s”.") % {"status": request.get_status_display()}, path=_PATH
        )


def _decided(request: ModelSubscriptionRequest, status: RequestStatus) -> ModelSubscriptionRequest:
    request.status, request.decided_at = status, timezone.now()
    request.save(update_fields=["status", "reason", "decided_at"])
    return request
