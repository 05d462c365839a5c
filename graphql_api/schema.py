"""The one schema, composed noun by noun. `manage.py export_schema graphql_api.schema:schema` prints schema.graphql."""

from collections.abc import Callable
from typing import Any

import strawberry
from django.db.models import QuerySet
from graphql import GraphQLError
from strawberry import relay
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types.execution import ExecutionContext
from strawberry_django.optimizer import DjangoOptimizerExtension, optimize

from marketplace.access import Principal
from marketplace.catalog import models as catalog
from marketplace.errors import ValidationProblem
from marketplace.metering import models as metering
from marketplace.publishing import models as publishing
from marketplace.subscriptions import models as subscriptions
from marketplace.tenants import models as tenants

from .budgets import BudgetsMutation
from .catalog import CatalogQuery, Model, ModelVersion, Publisher
from .context import Info
from .deployments import DeploymentsMutation
from .descriptions import DescriptionsMutation
from .errors import PROBLEMS
from .invocation import InvocationMutation, InvocationSubscription
from .limits import MAX_PAGE
from .metering import Invocation
from .nodes import parse_global_id
from .plans import PlansMutation
from .publishing import PublishingMutation
from .releases import ReleasesMutation
from .requests import ModelSubscriptionRequest, RequestsMutation
from .reviews import ReviewsMutation
from .scalars import SCALARS
from .sharing import SharingMutation
from .steps import StepsMutation
from .subscriptions import ModelSubscription, Plan, SubscriptionsMutation
from .tenants import ApiKey, Tenant, TenantsMutation, TenantsQuery, User
from .uploads import ArtifactUpload, UploadsMutation

Rows = Callable[[Principal], "QuerySet[Any]"]

# What a global id may name, and which of it the principal may see.
NODES: dict[str, tuple[type, Rows]] = {
    "User": (User, lambda principal: tenants.User.objects.filter(pk__in=[principal.user_id])),
    "Tenant": (Tenant, tenants.Tenant.objects.visible_to),
    "Publisher": (Publisher, lambda _principal: tenants.Tenant.objects.publishers()),
    "ApiKey": (ApiKey, tenants.ApiKey.objects.visible_to),
    "Model": (Model, catalog.MLModel.objects.visible_to),
    "ModelVersion": (ModelVersion, catalog.ModelVersion.objects.visible_to),
    "Plan": (Plan, subscriptions.Plan.objects.visible_to),
    "ModelSubscription": (ModelSubscription, subscriptions.ModelSubscription.objects.visible_to),
    "ModelSubscriptionRequest": (
        ModelSubscriptionRequest,
        subscriptions.ModelSubscriptionRequest.objects.visible_to_either,
    ),
    "Invocation": (Invocation, metering.Hold.objects.visible_to),
    "ArtifactUpload": (ArtifactUpload, publishing.Upload.objects.visible_to),
}


def _nodes(info: Info, ids: list[strawberry.ID]) -> list[Any]:
    """The objects behind global ids, null for those that are malformed, missing or hidden. One query for each type."""
    wanted = [parse_global_id(text) for text in ids]
    found: dict[tuple[str, Any], Any] = {}
    for name in {parsed[0] for parsed in wanted if parsed is not None} & NODES.keys():
        kind, rows = NODES[name]
        keys = [parsed[1] for parsed in wanted if parsed is not None and parsed[0] == name]
        for row in optimize(rows(info.context.principal).filter(pk__in=keys), info):
            found[name, row.pk] = strawberry.cast(kind, row)
    return [found.get(parsed) if parsed is not None else None for parsed in wanted]


@strawberry.type
class NodeQuery:
    @strawberry.field(description="Null for an id that is malformed, or not the caller's to see.")
    def node(self, info: Info, id: strawberry.ID) -> relay.Node | None:
        found: relay.Node | None = _nodes(info, [id])[0]
        return found

    @strawberry.field(description="In the order of the ids, null where `node` answers null.")
    def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[relay.Node | None]:
        if len(ids) > MAX_PAGE:
            raise ValidationProblem(f"At most {MAX_PAGE} ids at once.", path="ids")
        return _nodes(info, ids)


@strawberry.type
class Query(NodeQuery, TenantsQuery, CatalogQuery):
    pass


@strawberry.type
class Mutation(
    SubscriptionsMutation,
    TenantsMutation,
    BudgetsMutation,
    PublishingMutation,
    PlansMutation,
    RequestsMutation,
    ReviewsMutation,
    SharingMutation,
    ReleasesMutation,
    UploadsMutation,
    DescriptionsMutation,
    StepsMutation,
    DeploymentsMutation,
    InvocationMutation,
):
    pass


@strawberry.type
class Subscription(InvocationSubscription):
    pass


class Prepared(SchemaExtension):
    """Hands the executor the document that execution.py has parsed and validated already."""

    def on_operation(self) -> Any:
        execution: ExecutionContext = self.execution_context
        execution.graphql_document = (execution.operation_extensions or {})["document"]
        execution.validation_rules = ()
        yield


class Optimizer(DjangoOptimizerExtension):
    """Without its middleware, a look at the value of every field: here only Django's fields answer with QuerySets."""

    resolve = SchemaExtension.resolve  # type: ignore[assignment]


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: errors.py logs what was not expected, once and with the reference that the caller is told."""


schema = Schema(
    Query,
    Mutation,
    Subscription,
    types=PROBLEMS,
    extensions=[Prepared, Optimizer],
    config=StrawberryConfig(scalar_map=SCALARS),
)
