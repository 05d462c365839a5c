"""What a publisher says of a version: content types, labels and examples of its tensors, and its release notes."""

from typing import cast

import strawberry
from strawberry.scalars import JSON

from marketplace.catalog import models as catalog
from marketplace.catalog.models import Direction
from marketplace.publishing import descriptions

from .context import Info
from .mutation import expected_failures
from .nodes import primary_key
from .payloads import ModelVersionPayload
from .scalars import BigInt

strawberry.enum(Direction, name="TensorDirection")


@strawberry.input(description="A tensor, described anew: what is left out, or null, is not said any more.")
class TensorDescriptionInput:
    name: str
    direction: Direction
    content_type: str | None = strawberry.field(
        default=None, description="text/plain, image/png, application/x-class-scores, ..."
    )
    labels: list[str] | None = strawberry.field(
        default=None, description="For class scores: the name of each index of the last dimension."
    )
    example: JSON | None = strawberry.field(default=None, description="A value to try, flat and row-major.")
    example_shape: list[BigInt] | None = strawberry.field(
        default=None, description="Needed where the tensor has more than one dynamic dimension."
    )


@strawberry.input
class DescribeModelVersionInput:
    model_version: strawberry.ID
    tensors: list[TensorDescriptionInput] = strawberry.field(
        default_factory=list, description="Those that are not named stay as they are."
    )
    release_notes: str | None = strawberry.field(default=None, description="Null: they stay as they are.")


@strawberry.type
class DescribeModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class DescriptionsMutation:
    @strawberry.mutation(description="At any time, also of a live version: its signature and its artefact stay.")
    @expected_failures(DescribeModelVersionPayload)
    def describe_model_version(self, info: Info, input: DescribeModelVersionInput) -> DescribeModelVersionPayload:
        version = descriptions.describe(
            info.context.principal,
            version_id=primary_key(input.model_version, "ModelVersion", path="input.modelVersion"),
            tensors=[
                descriptions.Description(
                    direction=tensor.direction,
                    name=tensor.name,
                    content_type=tensor.content_type,
                    labels=tensor.labels,
                    example=cast("object", tensor.example),
                    example_shape=tensor.example_shape,
                )
                for tensor in input.tensors
            ],
            release_notes=input.release_notes,
        )
        return DescribeModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))
