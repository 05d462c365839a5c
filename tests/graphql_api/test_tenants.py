"""Who asks, for which tenant, and with which keys."""

from datetime import timedelta

import pytest
from django.utils import timezone

from graphql_api.nodes import global_id
from graphql_api.tenants import ViewerPermission
from marketplace.access import Permission, TenantRole
from marketplace.tenants.models import ApiKey, Membership
from tests import factories
from tests.graphql_api.caller import Caller, nodes
from tests.graphql_api.conftest import Marketplace

VIEWER = "{ viewer { user { email } tenant { slug isPublisher } role permissions tenants { slug } } }"

KEYS = "{ viewer { tenant { apiKeys { totalCount edges { node { name prefix role revokedAt lastUsedAt } } } } } }"

CREATE = """
mutation ($input: CreateApiKeyInput!) {
  createApiKey(input: $input) {
    secret apiKey { id name prefix role expiresAt } errors { __typename code message path }
  }
}"""

REVOKE = """
mutation ($id: ID!) { revokeApiKey(input: {apiKey: $id}) { apiKey { name revokedAt } errors { code path } } }"""

ACT_FOR = """
mutation ($id: ID!) {
  actForTenant(input: {tenant: $id}) { viewer { role tenant { slug } } errors { __typename code path } }
}"""

OTHERS = """
{ viewer { tenants { slug apiKeys { totalCount } modelSubscriptions { totalCount } invocations { totalCount } } } }"""


def test_a_person_is_the_viewer_with_the_role_of_their_membership(marketplace: Marketplace) -> None:
    viewer = marketplace.colleague.data(VIEWER)["viewer"]

    assert viewer["tenant"] == {"slug": "acme", "isPublisher": False}
    assert viewer["role"] == "VIEWER"
    assert viewer["permissions"] == []
    assert viewer["user"]["email"].endswith("@example.com")


def test_a_key_is_the_viewer_with_its_own_role_and_is_no_person(marketplace: Marketplace) -> None:
    viewer = Caller(key=factories.api_key(marketplace.openlab, TenantRole.ADMIN)).data(VIEWER)["viewer"]

    assert viewer["user"] is None
    assert (viewer["role"], viewer["tenant"]["slug"]) == ("ADMIN", "openlab")
    assert viewer["tenants"] == [{"slug": "openlab"}]


def test_the_viewers_permissions_are_all_there_are() -> None:
    assert {permission.name for permission in ViewerPermission} == {permission.name for permission in Permission}


def test_a_person_without_a_tenant_is_nobody_here(db: None) -> None:
    assert Caller(user=factories.user()).data(VIEWER) == {"viewer": None}


def test_a_new_key_works_and_its_secret_is_shown_once(marketplace: Marketplace) -> None:
    answer = marketplace.owner.data(CREATE, input={"name": "ci"})["createApiKey"]

    assert answer["errors"] == []
    assert answer["apiKey"]["role"] == "DEVELOPER"
    assert answer["secret"].startswith(answer["apiKey"]["prefix"])
    assert Caller(key=answer["secret"]).data(VIEWER)["viewer"]["tenant"]["slug"] == "acme"
    assert answer["secret"] not in str(marketplace.owner.data(KEYS))


def test_using_a_key_says_when(marketplace: Marketplace) -> None:
    secret = marketplace.owner.data(CREATE, input={"name": "ci"})["createApiKey"]["secret"]

    Caller(key=secret).data(VIEWER)

    newest = nodes(marketplace.owner.data(KEYS)["viewer"]["tenant"]["apiKeys"])[0]
    assert newest["name"] == "ci"
    assert newest["lastUsedAt"] is not None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": ""}, "input.name"),
        ({"name": "   "}, "input.name"),
        ({"name": "x" * 121}, "input.name"),
        ({"name": "a\0b"}, "input.name"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "input.expiresAt"),
    ],
)
def test_a_key_that_cannot_be_is_refused(marketplace: Marketplace, change: dict[str, str], path: str) -> None:
    before = ApiKey.objects.count()

    answer = marketplace.owner.data(CREATE, input={"name": "ci"} | change)["createApiKey"]

    assert (answer["apiKey"], answer["secret"]) == (None, None)
    assert [(error["__typename"], error["path"]) for error in answer["errors"]] == [("ValidationProblem", path)]
    assert ApiKey.objects.count() == before


def test_a_key_may_do_no_more_than_its_maker(marketplace: Marketplace) -> None:
    developer = Caller(user=factories.member(marketplace.acme, TenantRole.DEVELOPER))

    answer = developer.data(CREATE, input={"name": "ci", "role": "OWNER"})["createApiKey"]

    assert [error["path"] for error in answer["errors"]] == ["input.role"]


def test_a_revoked_key_is_refused_from_the_next_request_on(marketplace: Marketplace) -> None:
    created = marketplace.owner.data(CREATE, input={"name": "ci"})["createApiKey"]
    holder = Caller(key=created["secret"])
    holder.data(VIEWER)

    marketplace.owner.data(REVOKE, id=created["apiKey"]["id"])

    assert holder.error(VIEWER)["extensions"]["code"] == "UNAUTHENTICATED"


def test_revoking_twice_keeps_the_first_time(marketplace: Marketplace) -> None:
    key = global_id("ApiKey", marketplace.key.pk)

    first = marketplace.owner.data(REVOKE, id=key)
    second = marketplace.owner.data(REVOKE, id=key)

    assert first["revokeApiKey"]["apiKey"]["revokedAt"] is not None
    assert first == second


def test_an_expired_key_is_refused(marketplace: Marketplace) -> None:
    secret = marketplace.owner.data(CREATE, input={"name": "short", "expiresAt": "2999-01-01T00:00:00Z"})[
        "createApiKey"
    ]["secret"]
    assert Caller(key=secret).data(VIEWER)["viewer"]["tenant"]["slug"] == "acme"

    ApiKey.objects.filter(name="short").update(expires_at=timezone.now() - timedelta(seconds=1))

    assert Caller(key=secret).error(VIEWER)["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("identifier", ["", "nonsense", "QXBpS2V5Og==", "QXBpS2V5OjE=", "TW9kZWw6MQ=="])
def test_an_id_that_is_none_names_no_key(marketplace: Marketplace, identifier: str) -> None:
    answer = marketplace.owner.data(REVOKE, id=identifier)["revokeApiKey"]

    assert answer == {"apiKey": None, "errors": [{"code": "NOT_FOUND", "path": "input.apiKey"}]}


def test_an_id_of_another_type_names_no_key(marketplace: Marketplace) -> None:
    answer = marketplace.owner.data(REVOKE, id=global_id("Model", marketplace.key.pk))["revokeApiKey"]

    assert [error["code"] for error in answer["errors"]] == ["NOT_FOUND"]


def test_a_person_of_two_tenants_chooses_the_one_to_act_for(marketplace: Marketplace) -> None:
    Membership.objects.create(tenant=marketplace.globex, user=marketplace.alice, role=TenantRole.BILLING)
    alice = marketplace.owner
    assert alice.data(VIEWER)["viewer"]["tenant"]["slug"] == "acme"

    answer = alice.data(ACT_FOR, id=global_id("Tenant", marketplace.globex.pk))["actForTenant"]

    assert answer == {"viewer": {"role": "BILLING", "tenant": {"slug": "globex"}}, "errors": []}
    assert alice.data(VIEWER)["viewer"]["tenant"]["slug"] == "globex"


def test_of_tenants_not_acted_for_only_the_name_is_shown(marketplace: Marketplace) -> None:
    Membership.objects.create(tenant=marketplace.globex, user=marketplace.alice, role=TenantRole.OWNER)
    factories.api_key(marketplace.globex)

    tenants = marketplace.owner.data(OTHERS)["viewer"]["tenants"]

    none = {"totalCount": 0}
    assert tenants[1] == {"slug": "globex", "apiKeys": none, "modelSubscriptions": none, "invocations": none}
    assert tenants[0]["apiKeys"]["totalCount"] == 2


def test_a_person_who_left_acts_no_more(marketplace: Marketplace) -> None:
    marketplace.alice.memberships.all().delete()

    assert marketplace.owner.data(VIEWER) == {"viewer": None}


def test_a_key_acts_for_its_own_tenant_alone(marketplace: Marketplace) -> None:
    caller = Caller(key=factories.api_key(marketplace.acme, TenantRole.ADMIN))

    answer = caller.data(ACT_FOR, id=global_id("Tenant", marketplace.acme.pk))["actForTenant"]

    assert [error["__typename"] for error in answer["errors"]] == ["PermissionDenied"]
