"""The demo's people, models, plans and subscriptions, put up through the actions that people use.

What is there already stays as it is, whatever became of it: a cancelled subscription stays cancelled.
"""

import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction

from demo import llm
from demo.build import minilm
from demo.entry import Entry
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel
from marketplace.subscriptions import actions as subscriptions
from marketplace.tenants import actions as tenants
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey, Membership, Tenant, User

MODELS = ("add", "tumour", "sentiment", "minilm", "digits")
MADE_HERE = {"minilm": minilm.build}  # too large to be committed; the language model has to be fetched, too

PUBLISHER = "openlab"
SUBSCRIBER, SUBSCRIBED_PLAN = "acme", "Scale"
TENANTS = {"openlab": "OpenLab", "acme": "Acme", "globex": "Globex"}
KEY_NAME = "Demo (kept in demo.json)"


class Person(NamedTuple):
    """A member of a tenant or, without one, the operator."""

    name: str
    tenant: str | None
    role: str

    @property
    def email(self) -> str:
        return f"{self.name}@{self.tenant or 'marketplace'}.example"


PEOPLE = (
    Person("pat", "openlab", TenantRole.OWNER),
    Person("alice", "acme", TenantRole.OWNER),
    Person("bob", "acme", TenantRole.DEVELOPER),
    Person("carol", "globex", TenantRole.OWNER),
    Person("admin", None, "STAFF"),
)


class Credentials(NamedTuple):
    """What demo.json keeps: passwords by e-mail address, API keys by tenant."""

    passwords: dict[str, str]
    api_keys: dict[str, str]


def load() -> list[str]:
    """Puts up what is missing, in one transaction, and keeps demo.json. Returns the models that are new."""
    path = settings.DATA_DIR / "demo.json"
    with transaction.atomic():
        _one_at_a_time()
        kept = _read(path)
        principals = {slug: _principal(_tenant(slug)) for slug in TENANTS}
        passwords = {person.email: _account(person, kept.passwords.get(person.email)) for person in PEOPLE}
        api_keys = {slug: _api_key(principal, kept.api_keys.get(slug)) for slug, principal in principals.items()}
        there = set(MLModel.objects.filter(publisher__slug=PUBLISHER).values_list("name", flat=True))
        new = [entry for entry in _entries() if entry.name not in there]
        for entry in new:
            entry.publish(principals[PUBLISHER])
            _subscribe(principals[SUBSCRIBER], entry.name)
        _write(path, Credentials(passwords, api_keys))
    return [f"{PUBLISHER}/{entry.name}" for entry in new]


def _one_at_a_time() -> None:
    """Until the transaction ends: `make demo-llm` may come while `make run` is loading the demo."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('demo'))")


def _entries() -> list[Entry]:
    fetched = llm.archive()
    entries = [Entry(name, made_by=MADE_HERE.get(name)) for name in MODELS]
    return [*entries, llm.entry(fetched)] if fetched.exists() else entries


# ---------------------------------------------------------------- people


def _tenant(slug: str) -> Tenant:
    there = Tenant.objects.filter(slug=slug).first()
    return there or tenants.found_tenant(name=TENANTS[slug], owner=None, slug=slug, is_publisher=slug == PUBLISHER)


def _principal(tenant: Tenant) -> Principal:
    return Principal(
        tenant_id=tenant.pk, group_id=tenant.group_id, role=TenantRole.OWNER, is_publisher=tenant.is_publisher
    )


def _account(person: Person, kept: str | None) -> str:
    """The account's password: the kept one, else a new one."""
    password = kept or secrets.token_urlsafe(12)
    user = User.objects.filter(email=person.email).first()
    if user is None and person.tenant is None:
        User.objects.create_superuser(person.email, password, display_name=person.name.title())
    elif user is None:
        user = User.objects.create_user(person.email, password, display_name=person.name.title())
        Membership.objects.create(tenant=Tenant.objects.get(slug=person.tenant), user=user, role=person.role)
    elif kept is None:
        user.set_password(password)
        user.save(update_fields=["password"])
    return password


def _api_key(principal: Principal, kept: str | None) -> str:
    """The kept key if the database knows it, even revoked; else a new one in the place of the old."""
    mine = ApiKey.objects.visible_to(principal)
    if kept and mine.filter(digest=keys.digest(kept)).exists():
        return kept
    for key in mine.filter(name=KEY_NAME, revoked_at=None):
        tenants.revoke_api_key(principal, api_key_id=key.pk)
    _, secret = tenants.create_api_key(principal, name=KEY_NAME, role=TenantRole.ADMIN)
    return secret


def _subscribe(subscriber: Principal, name: str) -> None:
    model = MLModel.objects.get(publisher__slug=PUBLISHER, name=name)
    plan = model.plans.get(name=SUBSCRIBED_PLAN)
    subscriptions.subscribe(subscriber, model_ref=f"{PUBLISHER}/{name}", plan_id=plan.pk)


# ---------------------------------------------------------------- demo.json


def _read(path: Path) -> Credentials:
    """Nothing of a file that is missing or cannot be understood: it is drawn anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        passwords = {str(user["email"]): str(user["password"]) for user in content["users"]}
        return Credentials(passwords, {str(tenant): str(key) for tenant, key in content["apiKeys"].items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Credentials({}, {})


def _write(path: Path, credentials: Credentials) -> None:
    """Only for the owner's eyes, and whole or not at all."""
    users = [
        {
            "email": person.email,
            "password": credentials.passwords[person.email],
            "tenant": person.tenant,
            "role": str(person.role),
        }
        for person in PEOPLE
    ]
    content = {"url": settings.PUBLIC_URL, "users": users, "apiKeys": credentials.api_keys}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    fresh.replace(path)
