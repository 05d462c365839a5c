"""Versions, from the artefact that was uploaded to what may be released."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Direction, MLModel, ModelVersion, ModelVersionStatus, TensorSpec
from marketplace.catalog.queries import MLModelQuerySet
from marketplace.errors import ValidationProblem

from .ownership import own_model
from .validation import check, check_signature, input_path
from .worker import tell_checker, tell_reconciler


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


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks found in an artefact, or made of it when it had to be converted: that is what runs.

    `source_format`: what was uploaded then.
    """

    format: str
    sha256: str
    size_bytes: int
    signature: Sequence[Tensor]
    decoupled: bool = False
    source_format: str = ""


@transaction.atomic
def submit(
    principal: Principal, *, model_ref: str, sha256: str, size_bytes: int, release_notes: str = ""
) -> ModelVersion:
    """The next version, VALIDATING: what was uploaded is in the object store under `sha256`, and a worker checks it.

    It becomes READY (`accept`) or REJECTED (`reject`); until then `report` says how far the checks are.
    """
    version = _next_version(
        principal, MLModel.objects.by_ref(model_ref), sha256=sha256, size_bytes=size_bytes, release_notes=release_notes
    )
    version.status = ModelVersionStatus.VALIDATING
    version.save(force_insert=True)
    tell_checker(version.pk)
    return version


@transaction.atomic
def accept(version_id: UUID, *, checked: Checked, report: dict[str, Any]) -> ModelVersion:
    """READY, if it is still VALIDATING: it may be released. Raises ValidationProblem for an impossible signature."""
    version = ModelVersion.objects.select_for_update().get(pk=version_id)
    if version.status != ModelVersionStatus.VALIDATING:
        return version
    if checked.sha256 != version.sha256:
        version.source_format, version.source_sha256 = checked.source_format or version.format, version.sha256
    version.format, version.sha256, version.size_bytes = checked.format, checked.sha256, checked.size_bytes
    version.decoupled, version.report, version.status = checked.decoupled, report, ModelVersionStatus.READY
    _save_checked(version, checked.signature)
    return version


def reject(version_id: UUID, *, report: dict[str, Any]) -> None:
    """REJECTED for good: the publisher uploads another one."""
    ModelVersion.objects.filter(pk=version_id, status=ModelVersionStatus.VALIDATING).update(
        status=ModelVersionStatus.REJECTED, report=report
    )


def report_progress(version_id: UUID, *, report: dict[str, Any]) -> None:
    ModelVersion.objects.filter(pk=version_id, status=ModelVersionStatus.VALIDATING).update(report=report)


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
    """The next version, READY at once: for what the operator vouches for, which no check has to read."""
    version = _next_version(
        principal,
        MLModel.objects.filter(pk=model.pk),
        sha256=sha256,
        size_bytes=size_bytes,
        release_notes=release_notes,
        format=format,
        decoupled=decoupled,
    )
    version.status = ModelVersionStatus.READY
    _save_checked(version, signature)
    return version


def _next_version(principal: Principal, rows: MLModelQuerySet, **fields: Any) -> ModelVersion:
    """Numbers count from 1 without gaps: a lock on the model lets one caller at a time draw the next one."""
    model = own_model(principal, rows)
    last = model.versions.aggregate(last=Max("number"))["last"] or 0
    version = ModelVersion(model=model, number=last + 1, **fields)
    check(version, ("format", "sha256", "size_bytes", "release_notes"), input_path)
    if not re.fullmatch("[0-9a-f]{64}", version.sha256):
        raise ValidationProblem(_("A SHA-256 is 64 lower-case hexadecimal digits."), path="input.sha256")
    if version.size_bytes < 1:
        raise ValidationProblem(_("The artefact is empty."), path="input.sizeBytes")
    return version


def _save_checked(version: ModelVersion, signature: Sequence[Tensor]) -> None:
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
    version.save()
    TensorSpec.objects.bulk_create(tensors)
    tell_reconciler()
