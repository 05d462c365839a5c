"""Which tenants a publisher lets use a private model, by the addresses that people know."""

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import MLModel
from marketplace.errors import NotFound, ValidationProblem
from marketplace.subscriptions import sharing
from marketplace.tenants.models import Tenant

from .ownership import own_model


@transaction.atomic
def share_model(principal: Principal, *, model_ref: str, tenant_slug: str) -> MLModel:
    """The tenant sees the model and may subscribe; a subscription that was suspended comes back. Idempotent."""
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    tenant = _tenant(tenant_slug)
    if tenant.pk == principal.tenant_id:
        raise ValidationProblem(_("This is your own tenant, which has access already."), path="input.tenant")
    sharing.grant(principal, model=model, tenant=tenant)
    return model


@transaction.atomic
def unshare_model(principal: Principal, *, model_ref: str, tenant_slug: str) -> MLModel:
    """A private model is hidden from the tenant again, and its subscription suspended. Idempotent."""
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    sharing.withdraw(principal, model=model, tenant=_tenant(tenant_slug))
    return model


def _tenant(slug: str) -> Tenant:
    found = Tenant.objects.filter(slug=slug.strip().replace("\0", "\N{REPLACEMENT CHARACTER}")).select_related("group")
    tenant = found.first()
    if tenant is None:
        raise NotFound(_("There is no tenant at this address. Ask its members for it."), path="input.tenant")
    return tenant
