"""A private model is shared with tenants by their addresses."""

import pytest

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, Visibility
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing.shares import share_model, unshare_model
from marketplace.tenants.models import Tenant
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> Principal:
    openlab = factories.tenant("openlab", is_publisher=True)
    factories.model(openlab, "secret", visibility=Visibility.PRIVATE)
    factories.tenant("acme")
    return factories.principal(openlab)


def sees(slug: str) -> bool:
    return MLModel.objects.visible_to(factories.principal(Tenant.objects.get(slug=slug))).exists()


def test_sharing_shows_it_and_unsharing_hides_it_and_either_twice_is_once(owner: Principal) -> None:
    for _twice in range(2):
        share_model(owner, model_ref="openlab/secret", tenant_slug=" acme ")
        assert sees("acme")
    for _twice in range(2):
        unshare_model(owner, model_ref="openlab/secret", tenant_slug="acme")
        assert not sees("acme")


@pytest.mark.parametrize("slug", ["nobody", "", "a\x00b"])
def test_a_tenant_that_is_not_there_is_not_found(owner: Principal, slug: str) -> None:
    for act in (share_model, unshare_model):
        with pytest.raises(NotFound) as refused:
            act(owner, model_ref="openlab/secret", tenant_slug=slug)
        assert refused.value.path == "input.tenant"


def test_one_s_own_tenant_has_access_already(owner: Principal) -> None:
    with pytest.raises(ValidationProblem, match="your own tenant"):
        share_model(owner, model_ref="openlab/secret", tenant_slug="openlab")


def test_nobody_else_shares_it(owner: Principal) -> None:
    other = factories.principal(factories.tenant(is_publisher=True))
    viewer = factories.principal(Tenant.objects.get(slug="openlab"), factories.TenantRole.VIEWER)
    for act in (share_model, unshare_model):
        with pytest.raises(NotFound):
            act(other, model_ref="openlab/secret", tenant_slug="acme")
        with pytest.raises(PermissionDenied):
            act(viewer, model_ref="openlab/secret", tenant_slug="acme")
    assert not sees("acme")
