"""What mutations answer with, where several answer alike: the object, or why not."""

import strawberry
import strawberry_django
from django.db.models import QuerySet

from marketplace.catalog import models as catalog

from .catalog import Model, ModelVersion
from .errors import Problem


@strawberry.type
class ModelPayload:
    row: strawberry.Private["QuerySet[catalog.MLModel] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=Model | None)
    def model(self) -> "QuerySet[catalog.MLModel] | None":
        return self.row


@strawberry.type
class ModelVersionPayload:
    row: strawberry.Private["QuerySet[catalog.ModelVersion] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ModelVersion | None)
    def model_version(self) -> "QuerySet[catalog.ModelVersion] | None":
        return self.row
