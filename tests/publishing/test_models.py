"""Putting a model up and changing it."""

import pytest

from marketplace.access import ANONYMOUS, TenantRole
from marketplace.catalog.models import MLModel, Visibility
from marketplace.errors import NotFound, PermissionDenied, Unauthenticated, ValidationProblem
from marketplace.publishing.entries import create_model, update_model
from marketplace.subscriptions.models import ModelSubscriptionStatus
from tests import factories

pytestmark = pytest.mark.django_db

NEW = {"name": "digits", "display_name": "Digits", "summary": "Reads a digit.", "license": "MIT"}
CHANGED = {
    "display_name": "Digits 2",
    "summary": "Reads a digit well.",
    "card": "# Digits",
    "task": "IMAGE_CLASSIFICATION",
    "tags": ["vision"],
    "license": "MIT",
    "visibility": "PUBLIC",
}


def publisher(role=TenantRole.OWNER):
    return factories.principal(factories.tenant(is_publisher=True), role)


def test_a_new_model_is_private_and_has_no_version():
    owner = publisher()
    model = create_model(owner, **NEW)
    assert (model.publisher_id, model.name, model.visibility) == (owner.tenant_id, "digits", Visibility.PRIVATE)
    assert model.live_version is None
    assert model.versions.count() == 0


def test_space_around_words_and_repeated_tags_are_dropped():
    model = create_model(publisher(), **NEW | {"display_name": " Digits  ", "tags": ["cnn ", "cnn", "vision"]})
    assert model.display_name == "Digits"
    assert model.tags == ["cnn", "vision"]


@pytest.mark.parametrize("role", [TenantRole.OWNER, TenantRole.ADMIN, TenantRole.DEVELOPER])
def test_who_may_publish(role):
    assert create_model(publisher(role), **NEW).pk


@pytest.mark.parametrize("role", [TenantRole.BILLING, TenantRole.VIEWER])
def test_who_may_not(role):
    with pytest.raises(PermissionDenied, match="Your role may not publish models"):
        create_model(publisher(role), **NEW)


def test_a_consumer_is_told_whom_to_ask():
    with pytest.raises(PermissionDenied, match="/become-a-publisher/"):
        create_model(factories.principal(factories.tenant()), **NEW)


def test_nobody_is_asked_to_sign_in():
    with pytest.raises(Unauthenticated):
        create_model(ANONYMOUS, **NEW)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "Digits"}, "input.name"),
        ({"name": "-digits"}, "input.name"),
        ({"name": "digits/../x"}, "input.name"),
        ({"name": "d" * 97}, "input.name"),
        ({"name": ""}, "input.name"),
        ({"display_name": "  "}, "input.displayName"),
        ({"display_name": "D" * 121}, "input.displayName"),
        ({"display_name": "Di\x00gits"}, "input.displayName"),
        ({"display_name": "two\nlines"}, "input.displayName"),
        ({"summary": ""}, "input.summary"),
        ({"summary": "S" * 301}, "input.summary"),
        ({"card": "\x00"}, "input.card"),
        ({"card": "half of a pair: \ud83d"}, "input.card"),
        ({"card": "c" * 100_001}, "input.card"),
        ({"license": " "}, "input.license"),
        ({"license": "L" * 65}, "input.license"),
        ({"task": "COOKING"}, "input.task"),
        ({"visibility": "SECRET"}, "input.visibility"),
        ({"tags": [str(number) for number in range(21)]}, "input.tags"),
        ({"tags": ["t" * 41]}, "input.tags"),
        ({"tags": [""]}, "input.tags"),
        ({"tags": ["a\x00b"]}, "input.tags"),
    ],
)
def test_each_wrong_field_is_named_and_nothing_is_written(change, path):
    owner = publisher()
    with pytest.raises(ValidationProblem) as problem:
        create_model(owner, **NEW | change)
    assert problem.value.path == path
    assert not MLModel.objects.exists()


def test_a_card_has_lines_and_tabs():
    assert create_model(publisher(), **NEW | {"card": "# Title\r\n\n\tcode"}).card == "# Title\r\n\n\tcode"


def test_a_name_is_taken_once_per_publisher():
    owner = publisher()
    create_model(owner, **NEW)
    with pytest.raises(ValidationProblem, match="of this name already") as problem:
        create_model(owner, **NEW)
    assert problem.value.path == "input.name"
    assert create_model(publisher(), **NEW).pk


def test_changing_a_model():
    owner = publisher()
    model = create_model(owner, **NEW)
    update_model(owner, model_id=model.pk, **CHANGED)
    model.refresh_from_db()
    assert {field: getattr(model, field) for field in CHANGED} == CHANGED
    assert model.name == "digits"


def test_a_wrong_change_changes_nothing():
    owner = publisher()
    model = create_model(owner, **NEW)
    with pytest.raises(ValidationProblem) as problem:
        update_model(owner, model_id=model.pk, **CHANGED | {"license": ""})
    assert problem.value.path == "input.license"
    model.refresh_from_db()
    assert model.display_name == "Digits"


def test_another_publishers_model_is_missing_public_or_not():
    theirs = create_model(publisher(), **NEW | {"visibility": "PUBLIC"})
    with pytest.raises(NotFound):
        update_model(publisher(), model_id=theirs.pk, **CHANGED)


def test_a_colleague_without_the_role_is_refused():
    tenant = factories.tenant(is_publisher=True)
    model = create_model(factories.principal(tenant), **NEW)
    with pytest.raises(PermissionDenied):
        update_model(factories.principal(tenant, TenantRole.BILLING), model_id=model.pk, **CHANGED)


def test_a_model_made_private_keeps_its_subscribers():
    owner = publisher()
    model = create_model(owner, **NEW | {"visibility": "PUBLIC"})
    subscriber, former, stranger = factories.tenant(), factories.tenant(), factories.tenant()
    plan = factories.plan(model)
    factories.subscription(subscriber, plan)
    factories.subscription(former, plan, status=ModelSubscriptionStatus.CANCELLED)
    update_model(owner, model_id=model.pk, **CHANGED | {"visibility": "PRIVATE"})

    def sees(tenant):
        return MLModel.objects.visible_to(factories.principal(tenant)).filter(pk=model.pk).exists()

    assert [sees(subscriber), sees(former), sees(stranger)] == [True, False, False]


def test_a_suspended_subscription_comes_back_with_a_public_model():
    owner = publisher()
    model = create_model(owner, **NEW)
    subscription = factories.subscription(
        factories.tenant(), factories.plan(model), status=ModelSubscriptionStatus.SUSPENDED
    )
    update_model(owner, model_id=model.pk, **CHANGED | {"visibility": "PUBLIC"})
    subscription.refresh_from_db()
    assert subscription.status == ModelSubscriptionStatus.ACTIVE
