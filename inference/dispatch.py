"""To the endpoint that answers best, and on to the next one when it is not there, all before one deadline."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.catalog.models import ModelVersion
from marketplace.errors import DeadlineExceeded, ModelUnavailable

from . import gateway
from .deployment.demand import loaded_on_demand, mark_broken
from .failures import late
from .records import looked_up
from .scheduler import Scheduler
from .tensors import InferenceRequest, Tensor
from .versions import Place, endpoints_of, forget_endpoints_of

Outputs = tuple[Tensor, ...]

scheduler = Scheduler()


@dataclass(frozen=True, slots=True)
class Errand:
    """What to ask which version for, within `seconds`; `endpoints` have it loaded, as of when it was admitted or
    a second before. `waits`: how many seconds of them it took to have it loaded; `away`: where nobody answered."""

    version: ModelVersion
    endpoints: Sequence[Place]
    request: InferenceRequest
    seconds: float
    request_id: str
    waits: list[float] = field(default_factory=list)
    away: set[Place] = field(default_factory=set)


async def infer(errand: Errand) -> Outputs:
    """The model's outputs. Raises what `gateway.infer` raises, when no endpoint is left to ask."""
    version = errand.version
    if version.decoupled:
        async with aclosing(stream(errand)) as answers:
            return await gateway.only(answers)
    deadline = asyncio.get_running_loop().time() + errand.seconds
    failure: ModelUnavailable | None = None
    for where in (_known, _elsewhere, _once_loaded):
        for endpoint, name in await where(errand, deadline):
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                raise _told(late(errand.seconds), failure, remaining, errand)
            asked_at = timezone.now()
            try:
                with scheduler.running(endpoint, name):
                    return await gateway.infer(
                        endpoint, name, errand.request, timeout=remaining, request_id=errand.request_id
                    )
            except ModelUnavailable as error:
                await _noted(errand, (endpoint, name), error, asked_at)
                failure = _told(error, failure, remaining, errand)
    raise failure or _nowhere()


async def stream(errand: Errand) -> AsyncGenerator[Outputs]:
    """The model's answers, as it yields them. An endpoint that has answered once is not given up for another."""
    version = errand.version
    deadline = asyncio.get_running_loop().time() + errand.seconds
    failure: ModelUnavailable | None = None
    for where in (_known, _elsewhere, _once_loaded):
        for endpoint, name in await where(errand, deadline):
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                raise _told(late(errand.seconds), failure, remaining, errand)
            answered, asked_at = False, timezone.now()
            answers = gateway.stream(
                endpoint,
                name,
                errand.request,
                timeout=remaining,
                request_id=errand.request_id,
                stoppable=version.decoupled,
            )
            try:
                with scheduler.running(endpoint, name):
                    async with aclosing(answers):
                        async for outputs in answers:
                            answered = True
                            yield outputs
                return
            except ModelUnavailable as error:
                await _noted(errand, (endpoint, name), error, asked_at)
                if answered:
                    raise
                failure = _told(error, failure, remaining, errand)
    raise failure or _nowhere()


async def _known(errand: Errand, _deadline: float) -> list[Place]:
    return _ranked(errand.endpoints)


async def _elsewhere(errand: Errand, deadline: float) -> list[Place]:
    """Where it is loaded by now, perhaps, when none of those answered that were known when the call was admitted."""
    if asyncio.get_running_loop().time() >= deadline:
        return []
    forget_endpoints_of(errand.version.pk)
    return _ranked([each for each in await endpoints_of(errand.version.pk) if each not in errand.away])


async def _once_loaded(errand: Errand, deadline: float) -> list[Place]:
    """Where it is loaded for this call, when it was not loaded for want of memory."""
    started = asyncio.get_running_loop().time()
    if started >= deadline:
        return []
    try:
        return _ranked(await loaded_on_demand(errand.version.pk, deadline, away=frozenset(errand.away)))
    finally:
        errand.waits.append(asyncio.get_running_loop().time() - started)


def _ranked(places: Sequence[Place]) -> list[Place]:
    return scheduler.ranked([place for place in places if place[0] in settings.TRITON_URLS])


async def _noted(errand: Errand, place: Place, error: ModelUnavailable, asked_at: datetime) -> None:
    if isinstance(error, gateway.ModelBroken):
        await looked_up(mark_broken(*place, error.message, asked_at=asked_at))
        forget_endpoints_of(errand.version.pk)
    else:
        errand.away.add(place)


def _told(
    error: ModelUnavailable, earlier: ModelUnavailable | None, remaining: float, errand: Errand
) -> ModelUnavailable:
    """What the caller hears if nobody else answers. Who is asked after others, or once it was loaded, is late only if
    it had most of the time itself."""
    asked_first = earlier is None and not errand.waits
    if isinstance(error, DeadlineExceeded) and not asked_first and remaining < errand.seconds / 2:
        return earlier or _nowhere()
    return error


def _nowhere() -> ModelUnavailable:
    return ModelUnavailable(
        _("No server has this version loaded just now; it is being loaded."), retry_after_ms=2000, path="input.model"
    )
