"""How a version runs: how many copies of it, whether requests are merged, whether answers are remembered."""

from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Datatype, ModelVersion, ModelVersionStatus
from marketplace.errors import ValidationProblem

from .ownership import own_version
from .worker import tell_reconciler

MOST_INSTANCES = 8
LARGEST_BATCH = 256


@transaction.atomic
def proposed(
    principal: Principal,
    *,
    version_id: UUID,
    instance_count: int | None = None,
    max_batch_size: int | None = None,
    response_cache: bool | None = None,
) -> ModelVersion:
    """The version as it would run; None leaves a setting as it is. Nothing is written.

    Raises ValidationProblem for what could not be run so. Whether merging leaves the answers of a graph as they are,
    only a trial on a server can tell (inference.deployment.loading.try_out).
    """
    version = own_version(principal, version_id)
    if version.status not in {ModelVersionStatus.READY, ModelVersionStatus.LIVE}:
        raise ValidationProblem(
            _("Only a version that is ready can be configured, and this one is “%(status)s”.")
            % {"status": version.get_status_display()},
            path="input.modelVersion",
        )
    if instance_count is not None:
        version.instance_count = _within(instance_count, 1, MOST_INSTANCES, "input.instanceCount")
    if max_batch_size is not None:
        version.max_batch_size = _within(max_batch_size, 0, LARGEST_BATCH, "input.maxBatchSize")
    if response_cache is not None:
        version.response_cache = response_cache
    if version.response_cache and version.decoupled:
        raise ValidationProblem(
            _("What a model generates piece by piece is not remembered."), path="input.responseCache"
        )
    if version.max_batch_size:
        _check_batch(version)
    return version


@transaction.atomic
def configure(
    principal: Principal,
    *,
    version_id: UUID,
    instance_count: int | None = None,
    max_batch_size: int | None = None,
    response_cache: bool | None = None,
) -> ModelVersion:
    """From now on it is to run so. Servers that have it loaded answer as before until they have it loaded like this."""
    version = proposed(
        principal,
        version_id=version_id,
        instance_count=instance_count,
        max_batch_size=max_batch_size,
        response_cache=response_cache,
    )
    version.save(update_fields=["instance_count", "max_batch_size", "response_cache"])
    tell_reconciler()
    return version


def _within(value: int, least: int, most: int, path: str) -> int:
    if not least <= value <= most:
        raise ValidationProblem(_("From %(least)d to %(most)d.") % {"least": least, "most": most}, path=path)
    return value


def _check_batch(version: ModelVersion) -> None:
    path = "input.maxBatchSize"
    if version.decoupled or version.format == ArtifactFormat.ENSEMBLE:
        raise ValidationProblem(_("Only the requests of a single graph can be merged."), path=path)
    for tensor in version.tensors.all():
        if tensor.datatype == Datatype.BF16:
            raise ValidationProblem(_("Requests with tensors of bfloat16 are not merged."), path=path)
        if len(tensor.shape) < 2 or tensor.shape[0] != -1:
            raise ValidationProblem(
                _(
                    "To merge requests, every tensor has a dynamic first dimension for their rows, and at least one "
                    "more; “%(name)s” has not."
                )
                % {"name": tensor.name},
                path=path,
            )
