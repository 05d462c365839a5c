"""Where a version runs, and how."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import strawberry
import strawberry_django
from asgiref.sync import sync_to_async
from django.conf import settings

from inference.deployment import loading
from inference.models import Deployment, DeploymentStatus
from marketplace.catalog import models as catalog
from marketplace.publishing import configuration

from .context import Info
from .mutation import expected_failures
from .nodes import primary_key
from .payloads import ModelVersionPayload
from .scalars import BigInt

if TYPE_CHECKING:
    pass

strawberry.enum(
    DeploymentStatus,
    description="PENDING is being loaded; DRAINING is unloaded after the last call; COLD was unloaded for want of "
    "memory, and is loaded when somebody calls it.",
)


@strawberry_django.type(Deployment, name="ModelVersionDeployment", description="A version on one server.")
class ModelVersionDeployment:
    status: DeploymentStatus
    error: str = strawberry_django.field(description="Why it is FAILED.")
    failures: int = strawberry_django.field(description="Attempts in a row that have failed; they become rarer.")
    changed_at: datetime
    loaded_at: datetime | None = strawberry_django.field(description="Since when it takes calls.")
    used_at: datetime | None = strawberry_django.field(description="To the minute.")
    memory_bytes: BigInt = strawberry_django.field(description="Measured where that can be done, else estimated.")

    @strawberry_django.field(only=["endpoint"], description="A name for the server; its address is the operator's.")
    def endpoint(self: Any) -> str:
        known = settings.TRITON_URLS
        return f"triton-{known.index(self.endpoint) + 1}" if self.endpoint in known else "triton-gone"


@strawberry.input
class ConfigureModelVersionInput:
    """Null leaves a setting as it is."""

    model_version: strawberry.ID
    instance_count: int | None = strawberry.field(
        default=None, description="How many copies of it run on each server: as many requests are answered at a time."
    )
    max_batch_size: int | None = strawberry.field(
        default=None,
        description="How many rows the requests may have that are answered together; 0: one request at a time. "
        "A request of more rows is refused. It is refused itself where merging would change the model's answers.",
    )
    response_cache: bool | None = strawberry.field(
        default=None,
        description="Whether the same request gets the answer that it got before. It is charged as any other.",
    )


@strawberry.type
class ConfigureModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class DeploymentsMutation:
    @strawberry.mutation(description="Calls go on meanwhile: it is loaded anew beside itself, and then takes over.")
    @expected_failures(ConfigureModelVersionPayload)
    async def configure_model_version(
        self, info: Info, input: ConfigureModelVersionInput
    ) -> ConfigureModelVersionPayload:
        asked: dict[str, Any] = {
            "version_id": primary_key(input.model_version, "ModelVersion", path="input.modelVersion"),
            "instance_count": input.instance_count,
            "max_batch_size": input.max_batch_size,
            "response_cache": input.response_cache,
        }
        principal = info.context.principal
        proposed = await sync_to_async(configuration.proposed)(principal, **asked)
        if input.max_batch_size:
            await loading.try_out(proposed)
        version = await sync_to_async(configuration.configure)(principal, **asked)
        return ConfigureModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))
