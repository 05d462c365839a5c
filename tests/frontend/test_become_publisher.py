"""The page on which a tenant asks to publish, and reads what the operator says."""

from marketplace.tenants.applications import approve, decline
from marketplace.tenants.models import PublisherApplication
from tests import factories
from tests.frontend.conftest import Marketplace, words

PAGE = "/become-a-publisher/"


def test_asking_and_what_the_operator_says(marketplace: Marketplace) -> None:
    browser, operator = marketplace.stranger.client, factories.user(is_staff=True, is_superuser=True)
    sent = {"form": "apply", "about": "We make scanners.", "website": "https://globex.example"}

    said = words(browser.post(PAGE, sent, follow=True))
    assert "Asked. The operator decides." in said
    assert "It waits for the operator." in said
    first = PublisherApplication.objects.get(tenant=marketplace.globex)
    decline(operator, application_id=first.pk, reason="Who are you?")
    assert "The operator has declined it: Who are you?" in words(browser.get(PAGE))

    browser.post(PAGE, sent)
    approve(operator, application_id=PublisherApplication.objects.get(tenant=marketplace.globex, status="PENDING").pk)
    assert "Globex is a publisher." in words(browser.get(PAGE))


def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(marketplace: Marketplace) -> None:
    answer = marketplace.stranger.client.post(PAGE, {"form": "apply", "about": "Scanners.", "website": "globex"})

    assert answer.status_code == 422
    page = answer.content.decode()
    assert 'id="website-problem"' in page
    assert ">Scanners.</textarea>" in page


def test_a_viewer_reads_who_can_ask(marketplace: Marketplace) -> None:
    assert "An owner or administrator of Acme can ask." in words(marketplace.colleague.client.get(PAGE))
