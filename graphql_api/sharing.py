"""Private models, shared with named tenants."""

import strawberry

from marketplace.catalog import models as catalog
from marketplace.publishing import shares

from .context import Info
from .mutation import expected_failures
from .payloads import ModelPayload


@strawberry.input
class ShareModelInput:
    model: str = strawberry.field(description="publisher/name")
    tenant: str = strawberry.field(description="The tenant's address (slug), as its members know it.")


@strawberry.type
class ShareModelPayload(ModelPayload):
    pass


@strawberry.type
class UnshareModelPayload(ModelPayload):
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
