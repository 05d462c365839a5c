"""API keys: made, shown once, revoked."""

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from marketplace.access import TenantRole
from marketplace.tenants.authentication import principal_from_key
from marketplace.tenants.models import ApiKey
from tests import factories
from tests.frontend.conftest import Marketplace, words


def create(browser: Client, **fields: str) -> Any:
    return browser.post("/keys/", {"form": "create", "name": "nightly", "role": "DEVELOPER", "days": "30"} | fields)


def key_id(browser: Client) -> str:
    (found,) = re.findall(r'name="apiKey" value="([^"]+)"', browser.get("/keys/").content.decode())
    return str(found)


def test_members_see_their_tenants_keys_and_others_do_not(marketplace: Marketplace) -> None:
    assert f"production {marketplace.key.prefix}…" in words(marketplace.owner.client.get("/keys/"))
    assert f"production {marketplace.key.prefix}…" in words(marketplace.colleague.client.get("/keys/"))
    assert "production" not in words(marketplace.stranger.client.get("/keys/"))


def test_the_secret_is_shown_once(marketplace: Marketplace) -> None:
    browser = marketplace.stranger.client

    response = create(browser)

    (secret,) = re.findall(r'<code id="secret">([^<]+)</code>', response.content.decode())
    assert principal_from_key(secret).tenant_id == marketplace.globex.pk
    assert response.headers["Cache-Control"] == "no-store"
    assert secret not in browser.get("/keys/").content.decode()


def test_a_key_may_expire(marketplace: Marketplace) -> None:
    create(marketplace.stranger.client, days="90")
    create(marketplace.stranger.client, days="", name="for good")

    expiring, lasting = ApiKey.objects.filter(tenant=marketplace.globex).order_by("id")
    assert expiring.expires_at is not None
    assert (expiring.expires_at - timezone.now()).days in (89, 90)
    assert lasting.expires_at is None


def test_a_problem_stands_at_its_field_and_what_was_typed_stays(marketplace: Marketplace) -> None:
    response = create(marketplace.stranger.client, name="x" * 200, days="365")

    page = response.content.decode()
    assert response.status_code == 422
    assert re.search(r'aria-describedby="name-problem"', page)
    assert re.search(r'id="name-problem">A name has at most 120', page)
    assert f'value="{"x" * 200}"' in page
    assert '<option value="365" selected>' in page
    assert not ApiKey.objects.filter(tenant=marketplace.globex).exists()


def test_a_key_may_do_no_more_than_its_maker(marketplace: Marketplace) -> None:
    browser = Client()
    browser.force_login(factories.member(marketplace.acme, TenantRole.DEVELOPER))

    response = create(browser, role="ADMIN")

    assert response.status_code == 422
    assert re.search(r'id="role-problem">A key may not do more than you may yourself', response.content.decode())


def test_a_viewer_can_only_look(marketplace: Marketplace) -> None:
    page = words(marketplace.colleague.client.get("/keys/"))

    assert "New key" not in page
    assert "Revoke for good" not in page
    refused = create(marketplace.colleague.client)
    assert refused.status_code == 422
    assert not ApiKey.objects.filter(name="nightly").exists()


def test_revoking(marketplace: Marketplace) -> None:
    ApiKey.objects.filter(name="leaked").delete()
    browser = marketplace.owner.client

    response = browser.post("/keys/", {"form": "revoke", "apiKey": key_id(browser)}, follow=True)

    assert "Revoked. The key is refused from now on." in words(response)
    marketplace.key.refresh_from_db()
    assert marketplace.key.revoked_at is not None


def test_a_foreign_key_cannot_be_revoked(marketplace: Marketplace) -> None:
    ApiKey.objects.filter(name="leaked").delete()

    response = marketplace.stranger.client.post(
        "/keys/", {"form": "revoke", "apiKey": key_id(marketplace.owner.client)}
    )

    assert response.status_code == 422
    assert "There is no such object" in words(response)
    marketplace.key.refresh_from_db()
    assert marketplace.key.revoked_at is None


@pytest.mark.parametrize("fields", [{"days": "-1"}, {"days": "x"}, {"role": "GOD"}, {"name": "\0"}])
def test_forged_fields_are_refused_or_ignored(marketplace: Marketplace, fields: dict[str, str]) -> None:
    assert create(marketplace.stranger.client, **fields).status_code in (200, 400, 422)
