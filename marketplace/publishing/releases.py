"""Which version answers: releases, and the way back."""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus
from marketplace.catalog.takedowns import require_standing
from marketplace.errors import ValidationProblem

from .ownership import own_model, own_version
from .worker import tell_reconciler


@transaction.atomic
def release(principal: Principal, *, version_id: UUID) -> ModelVersion:
    """Asks for a READY version to go live. It does so in `promote_ready`, once every Triton has it loaded and warm.

    Releasing the live version calls off whatever release is still under way.
    """
    version = own_version(principal, version_id)
    model = version.model
    require_standing(model)
    if version.status not in {ModelVersionStatus.READY, ModelVersionStatus.LIVE}:
        raise ValidationProblem(
            _("Only a version that is ready can be released, and this one is “%(status)s”.")
            % {"status": version.get_status_display()},
            path="input.modelVersion",
        )
    model.releasing_version = version if version.status == ModelVersionStatus.READY else None
    model.save(update_fields=["releasing_version"])
    tell_reconciler()
    return version


@transaction.atomic
def promote_ready(version_ids: Iterable[UUID]) -> None:
    """Moves the live pointer of each model whose release is under way to it, if it is one of these warm versions."""
    waiting = MLModel.objects.filter(releasing_version__in=list(version_ids)).order_by("pk")
    for model in waiting.select_for_update():
        version = model.releasing_version
        if version is not None and version.status == ModelVersionStatus.READY:
            version.live_before_id = model.live_version_id
            _go_live(model, version)


@transaction.atomic
def rollback(principal: Principal, *, model_ref: str) -> MLModel:
    """Undoes the last release: calls it off while it is under way, else goes back to the version live before, at once.

    At once, because READY versions stay loaded.
    """
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    if model.releasing_version_id is not None:
        model.releasing_version = None
        model.save(update_fields=["releasing_version"])
        return model
    live = model.versions.filter(status=ModelVersionStatus.LIVE).select_related("live_before").first()
    before = live.live_before if live else None
    if before is None:
        raise ValidationProblem(
            _("No other version was live before: there is nothing to go back to."), path="input.model"
        )
    if before.status != ModelVersionStatus.READY:
        raise ValidationProblem(
            _("Version %(number)d was live before and is retired since: release another one instead.")
            % {"number": before.number},
            path="input.model",
        )
    _go_live(model, before)
    return model


@transaction.atomic
def retire(principal: Principal, *, version_id: UUID) -> ModelVersion:
    """Nobody can call it from now on, and it is unloaded. Retiring twice changes nothing."""
    version = own_version(principal, version_id)
    model = version.model
    if version.status == ModelVersionStatus.LIVE:
        raise ValidationProblem(_("This version is live: release another one first."), path="input.modelVersion")
    if version.status == ModelVersionStatus.VALIDATING:
        raise ValidationProblem(_("This version is being checked: wait for the end."), path="input.modelVersion")
    if model.releasing_version_id == version.pk:
        model.releasing_version = None
        model.save(update_fields=["releasing_version"])
    version.status = ModelVersionStatus.RETIRED
    version.save(update_fields=["status"])
    tell_reconciler()
    return version


def _go_live(model: MLModel, version: ModelVersion) -> None:
    ModelVersion.objects.filter(model=model, status=ModelVersionStatus.LIVE).update(status=ModelVersionStatus.READY)
    version.status = ModelVersionStatus.LIVE
    version.released_at = version.released_at or timezone.now()
    version.save(update_fields=["status", "released_at", "live_before"])
    model.live_version, model.releasing_version = version, None
    model.save(update_fields=["live_version", "releasing_version", "updated_at"])
