"""A subscriber pins the version that answers it."""

import pytest

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.subscriptions.models import ModelSubscription
from marketplace.subscriptions.pins import pin
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> MLModel:
    """Version 1 was live before version 2 is."""
    model = factories.model(factories.tenant("openlab", is_publisher=True), "digits")
    factories.version(model, 1, status="READY")
    factories.version(model, 2)
    return model


@pytest.fixture
def subscription(model: MLModel) -> ModelSubscription:
    return factories.subscription(factories.tenant("acme"), factories.plan(model))


@pytest.fixture
def acme(subscription: ModelSubscription) -> Principal:
    return factories.principal(subscription.tenant)


@pytest.mark.parametrize("number", [1, 2])
def test_any_version_that_it_may_call(
    acme: Principal, model: MLModel, subscription: ModelSubscription, number: int
) -> None:
    version = model.versions.get(number=number)
    pin(acme, subscription_id=subscription.pk, version_id=version.pk)
    subscription.refresh_from_db()
    assert subscription.pinned_version == version


def test_and_lets_go_of_it(acme: Principal, model: MLModel, subscription: ModelSubscription) -> None:
    pin(acme, subscription_id=subscription.pk, version_id=model.versions.get(number=1).pk)
    pin(acme, subscription_id=subscription.pk, version_id=None)
    subscription.refresh_from_db()
    assert subscription.pinned_version is None


@pytest.mark.parametrize("which", ["retired", "unreleased", "another model's"])
def test_no_version_that_could_not_answer(
    acme: Principal, model: MLModel, subscription: ModelSubscription, which: str
) -> None:
    version = {
        "retired": lambda: factories.version(model, status="RETIRED"),
        "unreleased": lambda: factories.version(model, status="READY", released_at=None),
        "another model's": lambda: factories.version(factories.model(model.publisher)),
    }[which]()
    with pytest.raises(NotFound) as problem:
        pin(acme, subscription_id=subscription.pk, version_id=version.pk)
    assert problem.value.path == "input.modelVersion"


def test_not_on_a_subscription_that_is_cancelled(acme: Principal, model: MLModel) -> None:
    other = factories.model(model.publisher)
    cancelled = factories.subscription(model.publisher, factories.plan(other), status="CANCELLED")
    with pytest.raises(ValidationProblem) as problem:
        pin(
            factories.principal(model.publisher),
            subscription_id=cancelled.pk,
            version_id=factories.version(other).pk,
        )
    assert problem.value.path == "input.modelSubscription"


@pytest.mark.parametrize("role", [TenantRole.DEVELOPER, TenantRole.VIEWER])
def test_who_may_not_subscribe_may_not_pin(subscription: ModelSubscription, role: TenantRole) -> None:
    with pytest.raises(PermissionDenied):
        pin(factories.principal(subscription.tenant, role), subscription_id=subscription.pk, version_id=None)


def test_nobody_pins_for_another_tenant(model: MLModel, subscription: ModelSubscription) -> None:
    for stranger in (factories.tenant("globex"), model.publisher):
        with pytest.raises(NotFound):
            pin(factories.principal(stranger), subscription_id=subscription.pk, version_id=None)
