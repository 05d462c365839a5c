"""GET /v1/models: what the caller may call and this door can answer."""

from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.utils.translation import gettext as _

from inference.callers import principal_by_secret
from inference.records import looked_up
from inference.signatures import signature_from
from inference.versions import answering
from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel, ModelTask, ModelVersion
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionStatus

from .errors import Refused
from .serving import asked, embedder, generator

TASKS = (ModelTask.TEXT_EMBEDDING, ModelTask.TEXT_GENERATION)
MOST = 1000


async def models(secret: str) -> dict[str, Any]:
    """The first 1,000 by name: OpenAI's list has no pages."""
    principal = await _caller(secret)
    return {"object": "list", "data": await looked_up(_listed(principal))}


async def model(secret: str, name: str) -> dict[str, Any]:
    principal = await _caller(secret)
    wanted = asked(name)
    found = await looked_up(_listed(principal, wanted.ref, wanted.number))
    if not found:
        message = _("There is no model %(name)s that you may call here. GET /v1/models lists those there are.")
        raise Refused(message % {"name": name[:200]}, path="model", code="model_not_found", http_status=404)
    return {**found[0], "id": name}


async def _caller(secret: str) -> Principal:
    principal = await principal_by_secret(secret)
    principal.require(Permission.INVOKE)
    return principal


@sync_to_async
def _listed(principal: Principal, ref: str | None = None, number: int | None = None) -> list[dict[str, Any]]:
    subscribed = ModelSubscription.objects.visible_to(principal).filter(status=ModelSubscriptionStatus.ACTIVE)
    chosen = MLModel.objects.visible_to(principal).filter(
        Q(publisher_id=principal.tenant_id) | Q(id__in=subscribed.values("model_id")), task__in=TASKS
    )
    versions = ModelVersion.objects.callable_by(principal)
    versions = versions.filter(pk=answering(principal)) if number is None else versions.filter(number=number)
    if ref is not None:
        chosen = chosen.by_ref(ref)
    rows = (
        versions.filter(model__in=chosen)
        .select_related("model__publisher")
        .prefetch_related("tensors")
        .order_by("model__publisher__slug", "model__name")[:MOST]
    )
    return [_entry(version.model) for version in rows if _answers(version)]


def _answers(version: ModelVersion) -> bool:
    task, signature = version.model.task, signature_from(version.tensors.all())
    return bool(embedder(task, signature) or generator(task, signature))


def _entry(model: MLModel) -> dict[str, Any]:
    return {
        "id": model.ref,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": model.publisher.slug,
    }
