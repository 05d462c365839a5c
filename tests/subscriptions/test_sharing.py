"""What a tenant may use of what others publish, and what becomes of its subscription when it no longer may."""

from typing import NamedTuple

import pytest

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel, Visibility
from marketplace.errors import NotFound, PermissionDenied
from marketplace.subscriptions import sharing
from marketplace.subscriptions.actions import subscribe
from marketplace.subscriptions.models import ModelSubscription, Plan
from marketplace.tenants.models import Tenant
from tests import factories

pytestmark = pytest.mark.django_db


class Deal(NamedTuple):
    """A private model of openlab's that globex was granted and has subscribed to."""

    publisher: Principal
    owner: Principal
    model: MLModel
    tenant: Tenant
    plan: Plan
    subscription: ModelSubscription

    @property
    def status(self) -> str:
        self.subscription.refresh_from_db()
        return self.subscription.status


@pytest.fixture
def deal() -> Deal:
    openlab, globex = factories.tenant("openlab", is_publisher=True), factories.tenant("globex")
    model = factories.model(openlab, "secret", visibility=Visibility.PRIVATE)
    plan = factories.plan(model)
    publisher, owner = factories.principal(openlab), factories.principal(globex)
    sharing.grant(publisher, model=model, tenant=globex)
    return Deal(publisher, owner, model, globex, plan, subscribe(owner, model_ref="openlab/secret", plan_id=plan.pk))


def test_a_grant_lets_a_tenant_see_and_subscribe(deal: Deal) -> None:
    assert deal.status == "ACTIVE"
    assert list(MLModel.objects.visible_to(deal.owner)) == [deal.model]


def test_withdrawing_it_hides_the_model_and_suspends_the_subscription(deal: Deal) -> None:
    sharing.withdraw(deal.publisher, model=deal.model, tenant=deal.tenant)

    assert deal.status == "SUSPENDED"
    assert not MLModel.objects.visible_to(deal.owner).exists()
    with pytest.raises(NotFound):
        subscribe(deal.owner, model_ref="openlab/secret", plan_id=deal.plan.pk)


def test_granting_it_again_brings_the_subscription_back(deal: Deal) -> None:
    sharing.withdraw(deal.publisher, model=deal.model, tenant=deal.tenant)

    sharing.grant(deal.publisher, model=deal.model, tenant=deal.tenant)

    assert deal.status == "ACTIVE"


def test_a_tenant_cannot_undo_its_own_suspension(deal: Deal) -> None:
    ModelSubscription.objects.update(status="SUSPENDED")

    with pytest.raises(PermissionDenied):
        subscribe(deal.owner, model_ref="openlab/secret", plan_id=deal.plan.pk)

    assert deal.status == "SUSPENDED"


def test_withdrawing_a_grant_on_a_public_model_takes_nothing_away(deal: Deal) -> None:
    deal.model.visibility = Visibility.PUBLIC
    deal.model.save()

    sharing.withdraw(deal.publisher, model=deal.model, tenant=deal.tenant)

    assert deal.status == "ACTIVE"


@pytest.mark.parametrize("act", [sharing.grant, sharing.withdraw])
def test_only_the_publisher_shares(deal: Deal, act: object) -> None:
    developer_of_another = factories.principal(factories.tenant(is_publisher=True), TenantRole.OWNER)
    billing = factories.principal(deal.model.publisher, TenantRole.BILLING)

    with pytest.raises(NotFound):
        act(developer_of_another, model=deal.model, tenant=deal.tenant)  # type: ignore[operator]
    with pytest.raises(PermissionDenied):
        act(billing, model=deal.model, tenant=deal.tenant)  # type: ignore[operator]
    assert deal.status == "ACTIVE"
