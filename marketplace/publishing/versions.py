"""Versions, from the artefact that was uploaded to what may be released."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Direction, MLModel, ModelVersion, ModelVersionStatus, TensorSpec
from marketplace.errors import ValidationProblem

from .ownership import own_model
from .reconciler import tell_reconciler
from .validation import check, check_signature, input_path


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
    tell_reconciler()
    return version
