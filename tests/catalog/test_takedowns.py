"""A model that the operator takes down: who still sees it, who hears why, and how it comes back."""

from typing import NamedTuple

import pytest

from marketplace.access import ANONYMOUS, Principal
from marketplace.catalog.models import MLModel, ModelVersion, ReleaseEvent, Visibility
from marketplace.catalog.takedowns import restore, take_down
from marketplace.errors import NotFound, PermissionDenied, TakenDown, ValidationProblem
from marketplace.publishing.releases import promote_canary, release
from marketplace.subscriptions.models import ModelSubscriptionStatus, Plan
from marketplace.tenants.models import User
from tests import factories

pytestmark = pytest.mark.django_db


class House(NamedTuple):
    """openlab's model, acme subscribed to it; former has cancelled, granted was let in and never subscribed."""

    model: MLModel
    ready: ModelVersion
    publisher: Principal
    subscriber: Principal
    former: Principal
    granted: Principal
    stranger: Principal
    operator: User


@pytest.fixture
def house() -> House:
    openlab = factories.tenant("openlab", is_publisher=True)
    model = factories.model(openlab, "digits")
    factories.version(model)
    plan = factories.plan(model)
    acme, former, granted = factories.tenant("acme"), factories.tenant("former"), factories.tenant("granted")
    factories.subscription(acme, plan)
    factories.subscription(former, plan, status=ModelSubscriptionStatus.CANCELLED)
    factories.grant(model, granted)
    return House(
        model,
        factories.version(model, status="READY", released_at=None),
        *map(factories.principal, (openlab, acme, former, granted, factories.tenant("globex"))),
        factories.user(is_staff=True, is_superuser=True),
    )


def seen_by(who: Principal) -> tuple[bool, bool, bool]:
    """The model, its versions, its plans."""
    return tuple(rows.visible_to(who).exists() for rows in (MLModel.objects, ModelVersion.objects, Plan.objects))  # type: ignore[return-value]


@pytest.mark.parametrize("visibility", list(Visibility))
def test_only_its_publisher_and_its_subscribers_are_left_to_see_it(house: House, visibility: str) -> None:
    MLModel.objects.update(visibility=visibility)
    factories.grant(house.model, factories.Tenant.objects.get(slug="acme"))
    take_down(house.operator, model_id=house.model.pk, reason="It writes ransom notes.")

    assert seen_by(house.publisher) == seen_by(house.subscriber) == (True, True, True)
    for who in (house.granted, house.stranger, ANONYMOUS):
        assert seen_by(who) == (False, False, False)
    # Who has cancelled keeps the plan on its page, and nothing else.
    assert seen_by(house.former) == (False, False, True)


def test_nobody_can_call_it_not_even_its_publisher(house: House) -> None:
    take_down(house.operator, model_id=house.model.pk, reason="Why.")

    for who in (house.publisher, house.subscriber, house.stranger):
        assert not ModelVersion.objects.callable_by(who).exists()


def test_nothing_is_released_meanwhile_and_what_was_under_way_is_called_off(house: House) -> None:
    release(house.publisher, version_id=house.ready.pk)
    take_down(house.operator, model_id=house.model.pk, reason="It writes ransom notes.")

    with pytest.raises(TakenDown, match="has taken openlab/digits down: It writes ransom notes"):
        release(house.publisher, version_id=house.ready.pk)
    MLModel.objects.update(canary_version=house.ready, canary_percent=10)
    with pytest.raises(TakenDown):
        promote_canary(house.publisher, model_ref="openlab/digits")
    house.model.refresh_from_db()
    assert house.model.releasing_version is None
    kinds = ReleaseEvent.objects.order_by("id").values_list("kind", "version")
    assert list(kinds) == [
        ("REQUESTED", house.ready.pk),
        ("CALLED_OFF", house.ready.pk),
        ("TAKEN_DOWN", None),
    ]


def test_restored_it_is_what_it_was(house: House) -> None:
    before = [seen_by(who) for who in house[2:7]]
    take_down(house.operator, model_id=house.model.pk, reason="Why.")
    restore(house.operator, model_id=house.model.pk)

    assert [seen_by(who) for who in house[2:7]] == before
    assert release(house.publisher, version_id=house.ready.pk)
    house.model.refresh_from_db()
    assert (house.model.taken_down_at, house.model.takedown_reason) == (None, "")


def test_the_history_says_who_and_why_once_for_each_change(house: House) -> None:
    for reason in ("First.", "First.", "Second."):
        take_down(house.operator, model_id=house.model.pk, reason=reason)
    for _twice in range(2):
        restore(house.operator, model_id=house.model.pk)

    rows = ReleaseEvent.objects.order_by("id").values_list("kind", "reason", "user", "version")
    assert list(rows) == [
        ("TAKEN_DOWN", "First.", house.operator.pk, None),
        ("TAKEN_DOWN", "Second.", house.operator.pk, None),
        ("RESTORED", "", house.operator.pk, None),
    ]


@pytest.mark.parametrize("reason", ["", "  \n", "N" * 2001, "a\x00b"])
def test_a_reason_is_given_and_bounded(house: House, reason: str) -> None:
    with pytest.raises(ValidationProblem) as refused:
        take_down(house.operator, model_id=house.model.pk, reason=reason)
    assert refused.value.path == "input.reason"
    assert not ReleaseEvent.objects.exists()


def test_only_an_operator_who_may_change_models_does_it(house: House) -> None:
    for fields in (
        {},
        {"is_staff": True},
        {"is_superuser": True},
        {"is_staff": True, "is_superuser": True, "is_active": False},
    ):
        with pytest.raises(PermissionDenied):
            take_down(factories.user(**fields), model_id=house.model.pk, reason="Why.")


def test_a_model_that_is_not_there_is_not_found(house: House) -> None:
    with pytest.raises(NotFound):
        take_down(house.operator, model_id=house.ready.pk, reason="Why.")
