"""Becoming a publisher: a tenant's owner asks, the operator decides, and until then nothing is published."""

from typing import NamedTuple

import pytest

from marketplace.access import ANONYMOUS, Principal, TenantRole
from marketplace.errors import NotFound, PermissionDenied, Unauthenticated, ValidationProblem
from marketplace.publishing.ownership import require_publisher
from marketplace.tenants.applications import approve, become_publisher, decline
from marketplace.tenants.models import PublisherApplication, Tenant, User
from tests import factories

pytestmark = pytest.mark.django_db


class Deal(NamedTuple):
    acme: Tenant
    owner: Principal
    operator: User

    def asks(self, about: str = "We make scanners.", website: str = "") -> PublisherApplication:
        return become_publisher(self.owner, about=about, website=website)

    @property
    def publishes(self) -> bool:
        self.acme.refresh_from_db()
        return self.acme.is_publisher


@pytest.fixture
def deal() -> Deal:
    acme = factories.tenant("acme")
    person = factories.member(acme)
    return Deal(
        acme,
        factories.principal(acme, user_id=person.pk),
        factories.user(is_staff=True, is_superuser=True),
    )


def test_who_asks_waits_and_may_not_publish_yet(deal: Deal) -> None:
    application = deal.asks(" We make scanners. ", "https://acme.example")
    assert (application.status, application.about, application.website) == (
        *("PENDING", "We make scanners."),
        "https://acme.example",
    )
    assert application.applied_by_id == deal.owner.user_id
    assert not deal.publishes
    with pytest.raises(PermissionDenied, match="becomePublisher or at /become-a-publisher/"):
        require_publisher(deal.owner)


def test_asking_again_changes_what_is_said(deal: Deal) -> None:
    first = deal.asks()
    assert deal.asks("We make cameras.") == first
    first.refresh_from_db()
    assert first.about == "We make cameras."


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"about": " "}, "input.about"),
        ({"about": "N" * 2001}, "input.about"),
        ({"about": "a\x00b"}, "input.about"),
        ({"website": "acme"}, "input.website"),
        ({"website": "javascript:alert(1)"}, "input.website"),
        ({"website": "https://acme.example/" + "a" * 200}, "input.website"),
    ],
    ids=["blank", "long", "NUL", "no address", "script", "long address"],
)
def test_what_is_said_is_bounded(deal: Deal, said: dict[str, str], path: str) -> None:
    with pytest.raises(ValidationProblem) as refused:
        deal.asks(**said)
    assert refused.value.path == path
    assert not PublisherApplication.objects.exists()


@pytest.mark.parametrize("role", ["DEVELOPER", "BILLING", "VIEWER"])
def test_only_owners_and_administrators_ask(deal: Deal, role: str) -> None:
    with pytest.raises(PermissionDenied):
        become_publisher(factories.principal(deal.acme, TenantRole(role)), about="We make scanners.")
    with pytest.raises(Unauthenticated):
        become_publisher(ANONYMOUS, about="We make scanners.")
    assert become_publisher(factories.principal(deal.acme, TenantRole.ADMIN), about="We make scanners.")


def test_a_publisher_has_nothing_to_ask_for(deal: Deal) -> None:
    openlab = factories.principal(factories.tenant(is_publisher=True))
    with pytest.raises(ValidationProblem, match="already"):
        become_publisher(openlab, about="We make scanners.")


def test_approved_it_publishes_and_approving_twice_changes_nothing(deal: Deal) -> None:
    application = deal.asks()
    for _twice in range(2):
        application = approve(deal.operator, application_id=application.pk)
    assert (application.status, application.decided_by, deal.publishes) == ("APPROVED", deal.operator, True)
    with pytest.raises(ValidationProblem, match="decided already"):
        decline(deal.operator, application_id=application.pk, reason="No.")


def test_declined_it_hears_why_once_and_may_ask_again(deal: Deal) -> None:
    application = deal.asks()
    for reason in ("Who are you?", "Another."):
        application = decline(deal.operator, application_id=application.pk, reason=reason)
    assert (application.status, application.reason, deal.publishes) == ("DECLINED", "Who are you?", False)
    with pytest.raises(ValidationProblem, match="decided already"):
        approve(deal.operator, application_id=application.pk)
    assert deal.asks() != application


def test_declining_says_why(deal: Deal) -> None:
    with pytest.raises(ValidationProblem) as refused:
        decline(deal.operator, application_id=deal.asks().pk, reason="")
    assert refused.value.path == "input.reason"


def test_only_an_operator_who_may_change_tenants_decides(deal: Deal) -> None:
    application = deal.asks()
    for person in (factories.user(), factories.user(is_staff=True), factories.user(is_superuser=True)):
        with pytest.raises(PermissionDenied):
            approve(person, application_id=application.pk)
        with pytest.raises(PermissionDenied):
            decline(person, application_id=application.pk, reason="No.")
    with pytest.raises(NotFound):
        approve(deal.operator, application_id=deal.acme.pk)
    assert not deal.publishes
