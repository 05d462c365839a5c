"""What a publisher does: put models up, add versions, release them and take them back."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError

from marketplace.access import Principal
from marketplace.catalog.models import (
    ArtifactFormat,
    Direction,
    MLModel,
    ModelTask,
    ModelVersion,
    ModelVersionStatus,
    TensorSpec,
    Visibility,
)
from marketplace.errors import ValidationProblem
from marketplace.subscriptions import sharing
from marketplace.subscriptions.models import ModelSubscriptionStatus
from marketplace.tenants.models import Tenant

from .ownership import own_model, own_version, require_publisher
from .validation import check, check_signature, input_path, save

log = logging.getLogger(__name__)

MODEL_FIELDS = ("display_name", "summary", "card", "task", "tags", "license", "visibility")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a version, as `catalog.TensorSpec` keeps it: -1 in `shape` for a dynamic dimension."""

    direction: Direction
    name: str
    datatype: str
    shape: Sequence[int]
    content_type: str | None = None
    labels: Sequence[str] | None = None
    example: object | None = None
    example_shape: Sequence[int] | None = None


# ---------------------------------------------------------------- models


@transaction.atomic
def create_model(
    principal: Principal,
    *,
    name: str,
    display_name: str,
    summary: str,
    license: str,
    card: str = "",
    task: str = ModelTask.OTHER,
    tags: Sequence[str] = (),
    visibility: str = Visibility.PRIVATE,
) -> MLModel:
    """A catalogue entry `publisher/name` without a version yet. Raises ValidationProblem for the first wrong field."""
    require_publisher(principal)
    assert principal.tenant_id is not None
    model = MLModel(
        publisher_id=principal.tenant_id,
        name=name.strip(),
        display_name=display_name.strip(),
        summary=summary.strip(),
        card=card,
        task=task,
        tags=_distinct(tags),
        license=license.strip(),
        visibility=visibility,
    )
    check(model, ("name", *MODEL_FIELDS), input_path)
    save(model, taken=_("You have a model of this name already: choose another one."), path="input.name")
    return model


@transaction.atomic
def update_model(
    principal: Principal,
    *,
    model_id: UUID,
    display_name: str,
    summary: str,
    card: str,
    task: str,
    tags: Sequence[str],
    license: str,
    visibility: str,
) -> MLModel:
    """Everything but the name, which clients call it by. Who subscribed to a public model keeps a private one."""
    model = own_model(principal, MLModel.objects.filter(pk=model_id))
    becomes_private = model.visibility == Visibility.PUBLIC and visibility == Visibility.PRIVATE
    model.display_name, model.summary, model.license = display_name.strip(), summary.strip(), license.strip()
    model.card, model.task, model.tags, model.visibility = card, task, _distinct(tags), visibility
    check(model, MODEL_FIELDS, input_path)
    model.save(update_fields=[*MODEL_FIELDS, "updated_at"])
    if becomes_private:
        for tenant in Tenant.objects.filter(
            model_subscriptions__model=model, model_subscriptions__status=ModelSubscriptionStatus.ACTIVE
        ).select_related("group"):
            sharing.grant(principal, model=model, tenant=tenant)
    return model


def _distinct(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tag.strip() for tag in tags))


# ---------------------------------------------------------------- versions


@transaction.atomic
def add_version(
    principal: Principal,
    *,
    model: MLModel,
    sha256: str,
    size_bytes: int,
    signature: Sequence[Tensor],
    format: str = ArtifactFormat.ONNX,
    release_notes: str = "",
    decoupled: bool = False,
) -> ModelVersion:
    """The next version, READY: its artefact has been checked and is in the object store under `sha256`.

    Numbers count from 1 without gaps: a lock on the model lets one caller at a time draw the next one.
    """
    model = own_model(principal, MLModel.objects.filter(pk=model.pk))
    last = model.versions.aggregate(last=Max("number"))["last"] or 0
    version = ModelVersion(
        model=model,
        number=last + 1,
        status=ModelVersionStatus.READY,
        format=format,
        sha256=sha256,
        size_bytes=size_bytes,
        release_notes=release_notes,
        decoupled=decoupled,
    )
    check(version, ("format", "sha256", "size_bytes", "release_notes"), input_path)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValidationProblem(_("A SHA-256 is 64 lower-case hexadecimal digits."), path="input.sha256")
    if size_bytes < 1:
        raise ValidationProblem(_("The artefact is empty."), path="input.sizeBytes")
    tensors = check_signature(
        [
            TensorSpec(
                version=version,
                position=position,
                direction=tensor.direction,
                name=tensor.name,
                datatype=tensor.datatype,
                shape=list(tensor.shape),
                content_type=tensor.content_type,
                labels=None if tensor.labels is None else list(tensor.labels),
                example=tensor.example,
                example_shape=None if tensor.example_shape is None else list(tensor.example_shape),
            )
            for position, tensor in enumerate(signature)
        ]
    )
    version.save(force_insert=True)
    TensorSpec.objects.bulk_create(tensors)
    _tell_reconciler()
    return version


@transaction.atomic
def release(principal: Principal, *, version_id: UUID) -> ModelVersion:
    """Asks for a READY version to go live. It does so in `promote_ready`, once every Triton has it loaded and warm.

    Releasing the live version calls off whatever release is still under way.
    """
    version = own_version(principal, version_id)
    model = version.model
    if version.status not in {ModelVersionStatus.READY, ModelVersionStatus.LIVE}:
        raise ValidationProblem(
            _("Only a version that is ready can be released, and this one is “%(status)s”.")
            % {"status": version.get_status_display()},
            path="input.modelVersion",
        )
    model.releasing_version = version if version.status == ModelVersionStatus.READY else None
    model.save(update_fields=["releasing_version"])
    _tell_reconciler()
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
    _tell_reconciler()
    return version


def _go_live(model: MLModel, version: ModelVersion) -> None:
    ModelVersion.objects.filter(model=model, status=ModelVersionStatus.LIVE).update(status=ModelVersionStatus.READY)
    version.status = ModelVersionStatus.LIVE
    version.released_at = version.released_at or timezone.now()
    version.save(update_fields=["status", "released_at", "live_before"])
    model.live_version, model.releasing_version = version, None
    model.save(update_fields=["live_version", "releasing_version", "updated_at"])


def _tell_reconciler() -> None:
    transaction.on_commit(_send_reconcile)


def _send_reconcile() -> None:
    """Sooner than beat, which asks every other second anyway: a broker that is down fails nothing."""
    try:
        current_app.send_task("inference.tasks.reconcile", expires=4, retry=False)
    except OperationalError as error:
        log.warning("The reconciler was not told, and will see it on its next round: %s", error)
