"""The demo's people, models, plans and subscriptions, put up through the actions that people use.

What is there already stays as it is, whatever became of it: a cancelled subscription stays cancelled.
"""

import json
import os
import secrets
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction

from demo.build import minilm
from inference import artifacts
from inference.formats import read_signature
from inference.tensors import TensorSpec
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import Direction, MLModel, Visibility
from marketplace.publishing import actions as publishing
from marketplace.publishing.plans import create_plan
from marketplace.subscriptions import actions as subscriptions
from marketplace.tenants import actions as tenants
from marketplace.tenants import keys
from marketplace.tenants.models import ApiKey, Membership, Tenant, User

CATALOGUE = Path(__file__).parent / "catalogue"
MODELS = ("add", "tumour", "sentiment", "minilm", "digits")
MADE_HERE = {"minilm": minilm.build}  # too large to be committed

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


class Offer(NamedTuple):
    name: str
    price: Decimal
    included_units: Decimal
    requests_per_second: int


PLANS = (
    Offer("Trial", Decimal(0), Decimal(50), 1_000),
    Offer("Free", Decimal(0), Decimal(1_000), 10),
    Offer("Scale", Decimal(99), Decimal(1_000_000_000), 100_000),
)


class Credentials(NamedTuple):
    """What demo.json keeps: passwords by e-mail address, API keys by tenant."""

    passwords: dict[str, str]
    api_keys: dict[str, str]


def load() -> list[str]:
    """Puts up what is missing, in one transaction, and keeps demo.json. Returns the models that are new."""
    path = settings.DATA_DIR / "demo.json"
    kept = _read(path)
    with transaction.atomic():
        principals = {slug: _principal(_tenant(slug)) for slug in TENANTS}
        passwords = {person.email: _account(person, kept.passwords.get(person.email)) for person in PEOPLE}
        api_keys = {slug: _api_key(principal, kept.api_keys.get(slug)) for slug, principal in principals.items()}
        there = set(MLModel.objects.filter(publisher__slug=PUBLISHER).values_list("name", flat=True))
        new = [name for name in MODELS if name not in there]
        for name in new:
            _publish(principals[PUBLISHER], name)
            _subscribe(principals[SUBSCRIBER], name)
    _write(path, Credentials(passwords, api_keys))
    return [f"{PUBLISHER}/{name}" for name in new]


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


# ---------------------------------------------------------------- models


def _publish(publisher: Principal, name: str) -> None:
    folder = CATALOGUE / name
    description: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model = publishing.create_model(
        publisher,
        name=name,
        display_name=description["displayName"],
        summary=description["summary"],
        card=(folder / "card.md").read_text(encoding="utf-8"),
        task=description["task"],
        tags=description["tags"],
        license=description["license"],
        visibility=Visibility.PUBLIC,
    )
    for offer in PLANS:
        create_plan(
            publisher,
            model_ref=f"{PUBLISHER}/{name}",
            name=offer.name,
            price=offer.price,
            included_units=offer.included_units,
            requests_per_second=offer.requests_per_second,
            burst=offer.requests_per_second,
        )
    versions = [_add_version(publisher, model, description, version) for version in description["versions"]]
    # Each goes live once, so that subscribers may name it; the live one last. This is ahead of the reconciler, which
    # loads them right after: `/readyz` waits for it, and until then nobody calls.
    live = versions.pop(description["live"] - 1)
    for version_id in [*versions, live]:
        publishing.release(publisher, version_id=version_id)
        publishing.promote_ready([version_id])


def _add_version(publisher: Principal, model: MLModel, description: dict[str, Any], version: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        artifact = CATALOGUE / model.name / version["artifact"]
        if model.name in MADE_HERE:
            artifact = Path(scratch) / version["artifact"]
            MADE_HERE[model.name](artifact)
        sha256, size = artifacts.put(settings.OBJECTS_DIR, artifact)
        signature = read_signature(artifact.read_bytes(), version["format"])
    return publishing.add_version(
        publisher,
        model=model,
        sha256=sha256,
        size_bytes=size,
        signature=[
            *(_tensor(Direction.INPUT, spec, description["inputs"]) for spec in signature.inputs),
            *(_tensor(Direction.OUTPUT, spec, description["outputs"]) for spec in signature.outputs),
        ],
        format=version["format"],
        release_notes=version["releaseNotes"],
    ).pk


def _tensor(direction: Direction, spec: TensorSpec, described: list[dict[str, Any]]) -> publishing.Tensor:
    (told,) = (tensor for tensor in described if tensor["name"] == spec.name)
    return publishing.Tensor(
        direction=direction,
        name=spec.name,
        datatype=spec.datatype,
        shape=spec.shape,
        content_type=told["contentType"],
        labels=told["labels"],
        example=told.get("example"),
        example_shape=told.get("exampleShape"),
    )


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
