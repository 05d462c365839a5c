"""What the Open Inference Protocol says of servers and models, as plain dicts in the form of its JSON.

Triton's own names and values; a model is called `publisher/name`, and its versions have the numbers that we gave them.
Whatever a principal may not see raises NotFound, as what does not exist.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.models import Exists, OuterRef, Q

from inference import gateway
from inference.models import Deployment, DeploymentStatus
from inference.records import looked_up
from inference.repository import tensor_config
from inference.signatures import signature_of
from inference.tensors import Signature, TensorSpec
from inference.versions import answering
from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Direction, MLModel, ModelVersion
from marketplace.catalog.models import TensorSpec as TensorRow
from marketplace.catalog.takedowns import require_standing
from marketplace.errors import ModelUnavailable, NotFound, TakenDown, ValidationProblem
from marketplace.metering.connections import fetched, out_of_reach
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionStatus

NAME = "model-marketplace"
VERSION = "0.1.0"
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
# Triton's index has no pages: a caller who may call more versions than this is told of those first by name.
MOST_IN_INDEX = 10_000
MOST_IN_STATISTICS = 1_000

DATABASE_IS_AWAY = (OperationalError, InterfaceError, psycopg.OperationalError)

P = ParamSpec("P")
T = TypeVar("T")


def _from_records(look_up: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Raises ModelUnavailable when PostgreSQL is away."""

    @wraps(look_up)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await look_up(*args, **kwargs)
        except DATABASE_IS_AWAY as error:
            raise out_of_reach() from error

    return asked


def server() -> dict[str, Any]:
    return {"name": NAME, "version": VERSION, "extensions": list(EXTENSIONS)}


async def is_server_ready() -> bool:
    """Whether a call could be decided on and answered: PostgreSQL and a Triton are there."""
    try:
        await fetched("SELECT 1", ())
    except ModelUnavailable:
        return False
    return any(await asyncio.gather(*map(gateway.is_server_live, settings.TRITON_URLS)))


@_from_records
async def metadata(principal: Principal, ref: str, number: int | None = None) -> dict[str, Any]:
    version = await _version(principal, ref, number)
    signature = await signature_of(version.pk)
    others = ModelVersion.objects.callable_by(principal).filter(model=version.model_id).order_by("number")
    numbers = await _all(others.values_list("number", flat=True)[:MOST_IN_INDEX])
    return {
        "name": ref,
        "versions": [str(each) for each in numbers],
        "platform": _platform(version),
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }


@_from_records
async def config(principal: Principal, ref: str, number: int | None = None) -> dict[str, Any]:
    """The part of Triton's model configuration that is about calling it, not about running it."""
    version = await _version(principal, ref, number)
    signature = await signature_of(version.pk)
    return {
        "name": ref,
        "platform": _platform(version),
        "backend": "onnxruntime" if version.format == ArtifactFormat.ONNX else "",
        "version_policy": {"specific": {"versions": [version.number]}},
        "max_batch_size": 0,
        "input": [tensor_config(spec) for spec in signature.inputs],
        "output": [tensor_config(spec) for spec in signature.outputs],
        "model_transaction_policy": {"decoupled": version.decoupled},
    }


@_from_records
async def is_model_ready(principal: Principal, ref: str, number: int | None = None) -> bool:
    """Whether a Triton has it loaded. False as well for what the principal may not see."""
    try:
        version = await _version(principal, ref, number)
    except (NotFound, TakenDown):
        return False
    return bool(await looked_up(_loaded().filter(version=version.pk).aexists()))


@_from_records
async def index(principal: Principal, *, ready: bool = False) -> list[dict[str, str]]:
    """Every version of what the caller publishes or has subscribed to; `ready`: only those that are loaded."""
    if principal.tenant_id is None:
        return []
    mine = MLModel.objects.filter(publisher=principal.tenant_id).values("pk")
    subscribed = ModelSubscription.objects.filter(
        tenant=principal.tenant_id, status=ModelSubscriptionStatus.ACTIVE
    ).values("model")
    versions = (
        ModelVersion.objects.callable_by(principal)
        .filter(model__in=mine.union(subscribed))
        .annotate(loaded=Exists(_loaded().filter(version=OuterRef("pk"))))
        .order_by("model__publisher__slug", "model__name", "number")
    )
    if ready:
        versions = versions.filter(loaded=True)
    columns = versions.values_list("model__publisher__slug", "model__name", "number", "loaded")
    rows = await _all(columns[:MOST_IN_INDEX])
    return [
        {
            "name": f"{publisher}/{name}",
            "version": str(number),
            "state": "READY" if loaded else "LOADING",
            "reason": "",
        }
        for publisher, name, number, loaded in rows
    ]


@_from_records
async def statistics(
    principal: Principal, ref: str | None = None, number: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Triton's counters of the caller's own models, those of all servers added up.

    They count everybody's calls, so nobody but the publisher sees them. Raises ValidationProblem where there are none.
    """
    versions = ModelVersion.objects.callable_by(principal).filter(model__publisher=principal.tenant_id)
    if ref is not None:
        versions = versions.filter(model__in=MLModel.objects.by_ref(ref))
    if number is not None:
        versions = versions.filter(number=number)
    chosen = versions.select_related("model__publisher").order_by("model__name", "number")[:MOST_IN_STATISTICS]
    rows = await _all(chosen) if principal.tenant_id else []
    if ref is not None and not rows:
        # As Triton says it, which calls this an argument that is wrong.
        which = f"model '{ref}'" if number is None else f"version {number} of model '{ref}'"
        raise ValidationProblem(f"requested {which} is not available", path="input.model")
    if not rows:
        return {"model_stats": []}
    deployed = Deployment.objects.filter(version__in=[row.pk for row in rows])
    names = dict(await _all(deployed.values_list("name", "version_id").distinct()))
    only = next(iter(names)) if len(names) == 1 else ""
    counted: dict[UUID, list[Mapping[str, Any]]] = {}
    for one_server in await asyncio.gather(*(_counters(address, only) for address in settings.TRITON_URLS)):
        for counters in one_server:
            if counters["name"] in names:
                counted.setdefault(names[counters["name"]], []).append(counters)
    return {
        "model_stats": [
            _added_up(counted[row.pk]) | {"name": row.model.ref, "version": str(row.number)}
            for row in rows
            if row.pk in counted
        ]
    }


@_from_records
async def labels(version: ModelVersion, output: str) -> Sequence[str]:
    """The names of an output's classes; empty when its publisher gave none."""
    rows = TensorRow.objects.filter(version=version, direction=Direction.OUTPUT, name=output)
    return await looked_up(rows.values_list("labels", flat=True).afirst()) or ()


@_from_records
async def signature(principal: Principal, ref: str, number: int | None = None) -> Signature:
    """Of the version that a call would reach."""
    return await signature_of((await _version(principal, ref, number)).pk)


async def _all(rows: AsyncIterable[T]) -> list[T]:
    async def read() -> list[T]:
        return [row async for row in rows]

    return await looked_up(read())


async def _version(principal: Principal, ref: str, number: int | None) -> ModelVersion:
    """The one that would answer this caller."""
    wanted = Q(pk=answering(principal)) if number is None else Q(number=number)
    versions = ModelVersion.objects.callable_by(principal).filter(wanted, model__in=MLModel.objects.by_ref(ref))
    found = await looked_up(versions.afirst())
    if found is not None:
        return found
    model = await looked_up(MLModel.objects.by_ref(ref).visible_to(principal).select_related("publisher").afirst())
    if model is not None:
        require_standing(model)
    raise not_found(ref, number)


def not_found(ref: str, number: int | None) -> NotFound:
    """In Triton's own words."""
    which = f"'{ref}'" if number is None else f"'{ref}' version {number}"
    return NotFound(f"Request for unknown model: {which} is not found", path="input.model")


def _loaded() -> Any:
    """What answers a call: it is loaded, or the call has it loaded, which is nothing that a client could wait for."""
    answering = (DeploymentStatus.READY, DeploymentStatus.COLD)
    return Deployment.objects.filter(status__in=answering, endpoint__in=settings.TRITON_URLS)


def _platform(version: ModelVersion) -> str:
    if version.format == ArtifactFormat.ONNX:
        return "onnxruntime_onnx"
    return "" if version.decoupled else "ensemble"


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": list(spec.shape)}


async def _counters(address: str, model: str) -> list[dict[str, Any]]:
    """Nothing of a server that is away: what it counted is lost, or shown again once it is back."""
    try:
        return await gateway.model_counters(address, model)
    except ModelUnavailable:
        return []


def _added_up(counters: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = counters
    total = dict(first)
    for other in others:
        for name, value in other.items():
            if name == "last_inference":
                total[name] = max(total[name], value)
            elif isinstance(value, Mapping):
                total[name] = _added_up((total[name], value))
            elif isinstance(value, int):
                total[name] += value
    return total
