"""Whose it is: a publisher's own models, plans and uploads, locked for writing. Anything else answers as missing."""

from uuid import UUID

from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.catalog.queries import MLModelQuerySet
from marketplace.errors import PermissionDenied
from marketplace.subscriptions.models import Plan

from .models import Upload


def require_publisher(principal: Principal) -> None:
    """Raises PermissionDenied for who may not publish: by role, or because the tenant is not a publisher."""
    principal.require(Permission.PUBLISH)
    if not principal.is_publisher:
        raise PermissionDenied(
            _(
                "Your tenant does not publish models yet. One of its owners or administrators asks for it, by "
                "becomePublisher or at /become-a-publisher/, and the operator decides."
            )
        )


def own_model(principal: Principal, rows: MLModelQuerySet) -> MLModel:
    """The one of `rows`, locked. Another publisher's model answers as a missing one, public or not."""
    own = rows.filter(publisher_id=principal.tenant_id).select_related("publisher")
    model = find(own, principal, Permission.PUBLISH, path="input.model", lock=True)
    require_publisher(principal)
    return model


def own_upload(principal: Principal, upload_id: UUID, *, path: str = "input.upload", lock: bool = False) -> Upload:
    upload: Upload = find(Upload.objects, principal, Permission.PUBLISH, path=path, pk=upload_id, lock=lock)
    require_publisher(principal)
    return upload


def own_plan(principal: Principal, plan_id: UUID) -> Plan:
    """Locked, against changes of the plan and against new subscriptions on it."""
    own = Plan.objects.filter(model__publisher_id=principal.tenant_id)
    plan = find(own, principal, Permission.PUBLISH, path="input.plan", lock=True, pk=plan_id)
    require_publisher(principal)
    return plan


def own_version(principal: Principal, version_id: UUID) -> ModelVersion:
    """The version as it stands behind the lock on its model, under which alone versions change their status."""
    own = ModelVersion.objects.filter(model__publisher_id=principal.tenant_id)
    found = find(own, principal, Permission.PUBLISH, path="input.modelVersion", pk=version_id)
    model = own_model(principal, MLModel.objects.filter(pk=found.model_id))
    version = model.versions.get(pk=found.pk)
    version.model = model
    return version
