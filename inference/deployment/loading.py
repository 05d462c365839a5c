"""One version at one endpoint: loaded and warm, or unloaded, or what became of the attempt."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from inference import gateway, repository
from inference.failures import readable
from inference.models import Deployment, DeploymentStatus
from inference.signatures import signature_of
from marketplace.catalog.models import ModelVersion
from marketplace.errors import InferenceFailed, MarketplaceError, ModelUnavailable, ValidationProblem
from marketplace.objects import store

from . import desired, stubs
from .names import load_number, trial_name
from .placement import Wanted

log = logging.getLogger(__name__)

MOST_FAILURES = 12


async def load(endpoint: str, wanted: Wanted, *, when_ready: Callable[[], None]) -> None:
    """Its deployment is READY at the end, and takes the calls of the one that it replaces; or FAILED, with the reason.

    Only then is `when_ready` called.
    """
    version = await ModelVersion.objects.aget(pk=wanted.version_id)
    row = await sync_to_async(desired.begun)(endpoint, version, wanted.memory_bytes)
    started = time.monotonic()
    try:
        await _load(endpoint, version)
    except Exception as error:  # whatever it is, the version's publisher has to see that there is something
        expected = isinstance(error, MarketplaceError | OSError | ValueError)
        log.warning("%s did not load on %s: %s", version.triton_name, endpoint, error, exc_info=not expected)
        reason = readable(str(error)) if expected else _("Something unexpected: the operator has been told.")
        await sync_to_async(_failed)(row, reason)
        return
    row.load_seconds = time.monotonic() - started
    processes = (await asyncio.to_thread(stubs.running, endpoint) or {}).get(row.name)
    if processes is not None:
        row.processes, row.memory_bytes = processes.count, max(processes.memory_bytes, row.memory_bytes)
    await sync_to_async(_ready)(row)
    log.info("%s is loaded on %s", version.triton_name, endpoint)
    when_ready()


async def try_out(version: ModelVersion) -> None:
    """Loads it with the settings that it has here, under a name that nobody calls, and unloads it again.

    Raises ValidationProblem, with Triton's reason, when it does not load; ModelUnavailable when there is no server.
    """
    (model,) = await models_of(version)
    model = replace(model, name=trial_name())
    live = [endpoint for endpoint in settings.TRITON_URLS if await gateway.is_server_live(endpoint)]
    if not live:
        raise ModelUnavailable(_("No server is there to try that on. Try again shortly."), retry_after_ms=5000)
    try:
        await gateway.load(live[0], model.name, {**model.config, "name": model.name}, model.files)
    except InferenceFailed as error:
        raise ValidationProblem(error.message, path="input.maxBatchSize") from error
    finally:
        with suppress(MarketplaceError):
            await gateway.unload(live[0], model.name)


async def unload(endpoint: str, models: Sequence[str], *, then: Callable[[], None]) -> None:
    """`models`: a version's, as the server lists them. Raises MarketplaceError when the server does not do it."""
    # An ensemble before its steps.
    for model in sorted(models, key=len):
        await gateway.unload(endpoint, model)
        log.info("%s is unloaded from %s", model, endpoint)
    await sync_to_async(then)()


async def unload_if_ours(endpoint: str, models: Sequence[str]) -> bool:
    """Whether they were. The server may be somebody else's too, with a database of their own: theirs stay."""
    ours = await sync_to_async(desired.owner)()
    owners = {await gateway.parameter(endpoint, model, repository.OWNER) for model in models}
    if owners != {ours}:
        return False
    for model in sorted(models, key=len):
        await gateway.unload(endpoint, model)
        log.warning("%s, of which nobody knew, is unloaded from %s", model, endpoint)
    return True


async def models_of(version: ModelVersion) -> list[repository.TritonModel]:
    artifact = await asyncio.to_thread(store().get, version.sha256)
    signature = await signature_of(version.pk)
    running = repository.Running(
        instance_count=version.instance_count,
        max_batch_size=version.max_batch_size,
        response_cache=version.response_cache,
        owner=await sync_to_async(desired.owner)(),
    )
    return await asyncio.to_thread(
        repository.triton_models,
        version.triton_name,
        version.format,
        artifact,
        signature,
        load=load_number(),
        running=running,
    )


async def _load(endpoint: str, version: ModelVersion) -> None:
    models = await models_of(version)
    # Unloading first mends a model whose stub died: Triton calls it ready and loading alone changes nothing.
    for model in reversed(models):
        await gateway.unload(endpoint, model.name)
    try:
        for model in models:
            await gateway.load(endpoint, model.name, model.config, model.files)
    except MarketplaceError:
        # Half an ensemble is of use to nobody.
        with suppress(MarketplaceError):
            for model in reversed(models):
                await gateway.unload(endpoint, model.name)
        raise


def _failed(row: Deployment, error: str) -> None:
    row.status, row.error, row.failures = DeploymentStatus.FAILED, error[:2000], min(row.failures + 1, MOST_FAILURES)
    row.save()


def _ready(row: Deployment) -> None:
    with transaction.atomic():
        desired.take_over(row)
