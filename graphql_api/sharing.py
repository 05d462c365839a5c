"""Private models, shared with named tenants."""

import strawberry
import strawberry_django
from django.db.models import QuerySet

from marketplace.catalog import models as catalog
from marketplace.publishing import shares

from .catalog import Model
from .context import Info
from .errors import Problem
from .mutation import expected_failures


@strawberry.input
class ShareModelInput:
    model: str = strawberry.field(description="publisher/name")
    tenant: str = strawberry.field(description="The tenant's address (slug), as its members know it.")


@strawberry.type
class _SharedPayload:
    row: strawberry.Private["QuerySet[catalog.MLModel] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=Model | None)
    def model(self) -> "QuerySet[catalog.MLModel] | None":
        return self.row


@strawberry.type
class ShareModelPayload(_SharedPayload):
    pass


@strawberry.type
class UnshareModelPayload(_SharedPayload):
    pass


@strawberry.type
class SharingMutation:
    @strawberry.mutation(
        description="The tenant sees the private model and may subscribe to it. A subscription that was suspended "
        "comes back. Sharing twice changes nothing."
    )
    @expected_failures(ShareModelPayload)
    def share_model(self, info: Info, input: ShareModelInput) -> ShareModelPayload:
        model = shares.share_model(info.context.principal, model_ref=input.model, tenant_slug=input.tenant)
        return ShareModelPayload(row=catalog.MLModel.objects.filter(pk=model.pk))

    @strawberry.mutation(
        description="A private model is hidden from the tenant again, and its subscription is suspended: calls are "
        "refused from the next one on."
    )
    @expected_failures(UnshareModelPayload)
    def unshare_model(self, info: Info, input: ShareModelInput) -> UnshareModelPayload:
        model = shares.unshare_model(info.context.principal, model_ref=input.model, tenant_slug=input.tenant)
        return UnshareModelPayload(row=catalog.MLModel.objects.filter(pk=model.pk))
