"""Rows to test with. Each names what a test cares about and fills in the rest; a suffix keeps unique names unique."""

import functools
import itertools
from decimal import Decimal
from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from guardian.shortcuts import assign_perm

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import (
    Datatype,
    Direction,
    MLModel,
    ModelTask,
    ModelVersion,
    ModelVersionStatus,
    TensorSpec,
    Visibility,
)
from marketplace.metering.models import Hold, HoldState
from marketplace.publishing.models import Upload, UploadStatus
from marketplace.subscriptions.models import ModelSubscription, Plan
from marketplace.tenants import actions
from marketplace.tenants.models import ApiKey, Membership, Tenant, User

PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


def tenant(slug: str | None = None, *, is_publisher: bool = False, name: str | None = None) -> Tenant:
    slug = slug or f"tenant-{next(_numbers)}"
    return actions.found_tenant(name=name or slug.title(), owner=None, slug=slug, is_publisher=is_publisher)


@functools.cache
def _hashed() -> str:
    """Hashed once for everybody: a good hash takes a good part of a second."""
    return make_password(PASSWORD)


def user(email: str | None = None, **fields: Any) -> User:
    return User.objects.create(email=email or f"user-{next(_numbers)}@example.com", password=_hashed(), **fields)


def member(of: Tenant, role: TenantRole = TenantRole.OWNER, email: str | None = None) -> User:
    """A user with a membership; signs in with `PASSWORD`, or through `client.force_login`."""
    person = user(email)
    Membership.objects.create(tenant=of, user=person, role=role)
    return person


def principal(of: Tenant, role: TenantRole = TenantRole.OWNER, *, user_id: UUID | None = None) -> Principal:
    """Whoever acts for the tenant, where it does not matter who it is."""
    return Principal(user_id=user_id, tenant_id=of.pk, group_id=of.group_id, role=role, is_publisher=of.is_publisher)


def api_key(of: Tenant, role: TenantRole = TenantRole.DEVELOPER, *, name: str = "test") -> str:
    """The secret of a new key."""
    return actions.create_api_key(principal(of), name=name, role=role)[1]


def api_key_row(of: Tenant, role: TenantRole = TenantRole.DEVELOPER, *, name: str = "test") -> ApiKey:
    return actions.create_api_key(principal(of), name=name, role=role)[0]


def model(publisher: Tenant, name: str | None = None, **fields: Any) -> MLModel:
    """A public model without a version, unless `fields` say otherwise."""
    name = name or f"model-{next(_numbers)}"
    return MLModel.objects.create(
        **{
            "publisher": publisher,
            "name": name,
            "display_name": name.replace("-", " ").capitalize(),
            "summary": f"What {name} does.",
            "task": ModelTask.OTHER,
            "license": "Apache-2.0",
            "visibility": Visibility.PUBLIC,
        }
        | fields
    )


def version(
    of: MLModel, number: int | None = None, *, status: str = ModelVersionStatus.LIVE, **fields: Any
) -> ModelVersion:
    """A version that adds two vectors. LIVE ones become the model's live version; LIVE and READY ones are released."""
    released = status in (ModelVersionStatus.LIVE, ModelVersionStatus.READY)
    row = ModelVersion.objects.create(
        **{
            "model": of,
            "number": number or of.versions.count() + 1,
            "status": status,
            "sha256": uuid.uuid4().hex * 2,
            "size_bytes": 1024,
            "released_at": timezone.now() if released else None,
        }
        | fields
    )
    for direction, names in ((Direction.INPUT, ("A", "B")), (Direction.OUTPUT, ("SUM",))):
        for position, name in enumerate(names):
            tensor(row, direction, name, position=position)
    if status == ModelVersionStatus.LIVE:
        of.live_version = row
        of.save(update_fields=["live_version"])
    return row


def tensor(of: ModelVersion, direction: str, name: str, **fields: Any) -> TensorSpec:
    return TensorSpec.objects.create(
        **{
            "version": of,
            "direction": direction,
            "position": 0,
            "name": name,
            "datatype": Datatype.FP32,
            "shape": [-1],
        }
        | fields
    )


def grant(of: MLModel, to: Tenant) -> None:
    """Lets the tenant see and use a private model."""
    assign_perm("catalog.use_mlmodel", to.group, of)


def plan(of: MLModel, **fields: Any) -> Plan:
    return Plan.objects.create(
        **{
            "model": of,
            "name": f"Plan {next(_numbers)}",
            "price": Decimal(0),
            "included_units": Decimal(1000),
            "requests_per_second": 1000,
            "burst": 1000,
        }
        | fields
    )


def subscription(of: Tenant, to: Plan, **fields: Any) -> ModelSubscription:
    row = ModelSubscription.objects.create(**{"tenant": of, "model": to.model, "plan": to} | fields)
    if row.status != "CANCELLED":
        to.model.subscriber_count += 1
        to.model.save(update_fields=["subscriber_count"])
    return row


def hold(of: Tenant, on: ModelVersion, **fields: Any) -> Hold:
    """A settled invocation, unless `fields` say otherwise; no quota moves."""
    now = timezone.now()
    return Hold.objects.create(
        **{
            "tenant": of,
            "version": on,
            "units": Decimal(1),
            "charged": Decimal(1),
            "state": HoldState.SETTLED,
            "created_at": now,
            "expires_at": now,
            "finished_at": now,
            "latency_ms": 2.5,
        }
        | fields
    )


def upload(of: Tenant, *, status: str = UploadStatus.COMPLETE, **fields: Any) -> Upload:
    """Of ten bytes, which are in no object store; PENDING ones have none of them yet."""
    whole = status != UploadStatus.PENDING
    given = {"size_bytes": 10, "received_bytes": 10 if whole else 0, "sha256": uuid.uuid4().hex * 2 if whole else ""}
    expires_at = timezone.now() + Upload.lifetime()
    return Upload.objects.create(**{"tenant": of, "status": status, "expires_at": expires_at, **given} | fields)
