"""Signing up, in and out; passwords; acting for one tenant or another."""

import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from marketplace.access import TenantRole
from marketplace.tenants.models import Membership, User
from tests import factories
from tests.frontend.conftest import Marketplace, words

NEWCOMER = {
    "display_name": "Dana",
    "organisation": "Initech",
    "email": "dana@initech.example",
    "password1": factories.PASSWORD,
}


def sign_in(browser: Client, user: User, password: str = factories.PASSWORD, **fields: str) -> Any:
    return browser.post("/accounts/login/", {"login": user.email, "password": password} | fields)


@pytest.fixture
def browser(db: None) -> Client:
    return Client()


def test_signing_up_founds_an_organisation(browser: Client) -> None:
    response = browser.post("/accounts/signup/", NEWCOMER, follow=True)

    assert "Initech Dana" in words(response)
    membership = Membership.objects.get(user__email="dana@initech.example")
    assert (membership.tenant.slug, membership.role) == ("initech", TenantRole.OWNER)


def test_a_problem_stands_at_its_field(browser: Client) -> None:
    response = browser.post("/accounts/signup/", NEWCOMER | {"email": "nonsense", "password1": "12345678"})

    page = response.content.decode()
    assert re.search(r'id="id_email_error">\s*<p class="problem"', page)
    assert re.search(r'id="id_password1_error">\s*<p class="problem"', page)
    assert 'value="Initech"' in page
    assert not User.objects.exists()


def test_signing_in_leads_back(marketplace: Marketplace, browser: Client) -> None:
    response = sign_in(browser, marketplace.alice, next="/keys/")

    assert response.headers["Location"] == "/keys/"
    assert browser.get("/keys/").status_code == 200


def test_signing_in_never_leads_off_the_site(marketplace: Marketplace, browser: Client) -> None:
    response = sign_in(browser, marketplace.alice, next="https://evil.example/")

    assert response.headers["Location"] == "/"


def test_a_wrong_password_says_no_more_than_that(marketplace: Marketplace, browser: Client) -> None:
    known = words(sign_in(browser, marketplace.alice, "wrong"))
    unknown = words(sign_in(browser, User(email="nobody@example.com"), "wrong"))

    assert "The email address and/or password you specified are not correct." in known
    assert known == unknown


def test_signing_out_takes_a_post(marketplace: Marketplace) -> None:
    browser = marketplace.owner.client

    assert "You will need your password to come back." in words(browser.get("/accounts/logout/"))
    assert browser.get("/keys/").status_code == 200
    browser.post("/accounts/logout/")
    assert browser.get("/keys/").status_code == 302


def test_changing_the_password(marketplace: Marketplace) -> None:
    new = "another horse entirely"
    fields = {"oldpassword": factories.PASSWORD, "password1": new, "password2": new}

    marketplace.owner.client.post("/accounts/password/change/", fields)

    marketplace.alice.refresh_from_db()
    assert marketplace.alice.check_password(new)


def test_a_forgotten_password(marketplace: Marketplace, browser: Client) -> None:
    new = "another horse entirely"

    asked = browser.post("/accounts/password/reset/", {"email": marketplace.alice.email}, follow=True)
    (message,) = mail.outbox
    (link,) = re.findall(r"http://testserver(/\S+)", message.body)
    form = browser.get(link, follow=True)
    done = browser.post(form.redirect_chain[-1][0], {"password1": new, "password2": new}, follow=True)

    assert "Look into your mailbox" in words(asked)
    assert "Choose a new password" in words(form)
    assert "Password changed" in words(done)
    assert sign_in(browser, marketplace.alice, new).status_code == 302
    assert "This link has been used or is too old." in words(Client().get(link, follow=True))


def test_a_forgotten_password_does_not_tell_who_has_an_account(browser: Client) -> None:
    response = browser.post("/accounts/password/reset/", {"email": "nobody@example.com"}, follow=True)

    assert "Look into your mailbox" in words(response)


def test_a_member_of_two_tenants_switches(marketplace: Marketplace) -> None:
    Membership.objects.create(tenant=marketplace.globex, user=marketplace.alice, role=TenantRole.VIEWER)
    browser = marketplace.owner.client
    page = browser.get("/")
    (tenant,) = re.findall(r'name="tenant" value="([^"]+)">Switch to Globex', page.content.decode())

    response = browser.post("/", {"form": "act_for", "tenant": tenant}, follow=True)

    assert "Viewer · Globex" in words(response)
    assert "Switch to Acme" in words(response)
    assert "No subscriptions yet." in words(browser.get("/usage/"))


def test_nobody_switches_to_a_tenant_they_do_not_belong_to(marketplace: Marketplace) -> None:
    Membership.objects.create(tenant=marketplace.globex, user=marketplace.alice, role=TenantRole.VIEWER)
    (tenant,) = re.findall(r'name="tenant" value="([^"]+)"', marketplace.owner.client.get("/").content.decode())

    response = marketplace.publisher.client.post("/", {"form": "act_for", "tenant": tenant})

    assert response.status_code == 422
    assert "OpenLab" in words(response) or "Openlab" in words(response)


def test_the_menu_leads_publishers_and_staff_to_their_panels(marketplace: Marketplace, browser: Client) -> None:
    browser.force_login(factories.user(is_staff=True))

    assert 'href="/publish/"' in marketplace.publisher.client.get("/").content.decode()
    accountant = Client()
    accountant.force_login(factories.member(marketplace.openlab, TenantRole.BILLING))
    assert 'href="/publish/">Revenue' in accountant.get("/").content.decode()
    assert 'href="/publish/"' not in marketplace.owner.client.get("/").content.decode()
    assert 'href="/admin/"' in browser.get("/").content.decode()
    assert 'href="/admin/"' not in marketplace.owner.client.get("/").content.decode()


def test_whoever_belongs_nowhere_is_told_what_to_do(browser: Client) -> None:
    browser.force_login(factories.user())

    response = browser.get("/usage/")

    assert response.status_code == 403
    assert "Your account belongs to no organisation yet. Ask an owner to add you." in words(response)
    assert browser.get("/").status_code == 200
