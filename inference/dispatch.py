"""To the endpoint that answers best, and on to the next one when it is not there, all before one deadline."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

from marketplace.catalog.models import ModelVersion
from marketplace.errors import ModelUnavailable

from . import gateway
from .deployment import mark_broken
from .records import looked_up
from .scheduler import Scheduler
from .tensors import InferenceRequest, Tensor
from .versions import endpoints_of, forget_endpoints_of

Outputs = tuple[Tensor, ...]

scheduler = Scheduler()


@dataclass(frozen=True, slots=True)
class Errand:
    """What to ask which version for, within `seconds`; `endpoints` (addresses) have it loaded, as of a second ago when
    they are `hinted`."""

    version: ModelVersion
    endpoints: Sequence[str]
    request: InferenceRequest
    seconds: float
    request_id: str
    hinted: bool


async def infer(errand: Errand) -> Outputs:
    """The model's outputs. Raises what `gateway.infer` raises, when no endpoint is left to ask."""
    version = errand.version
    if version.decoupled:
        async with aclosing(stream(errand)) as answers:
            return await gateway.only(answers)
    deadline = asyncio.get_running_loop().time() + errand.seconds
    failure: ModelUnavailable | None = None
    for where in (_known, _elsewhere):
        for endpoint in await where(errand):
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                raise failure or _nowhere()
            try:
                with scheduler.running(endpoint, version.triton_name):
                    return await gateway.infer(
                        endpoint, version.triton_name, errand.request, timeout=remaining, request_id=errand.request_id
                    )
            except ModelUnavailable as error:
                failure = await _noted(version, endpoint, error)
    raise failure or _nowhere()


async def stream(errand: Errand) -> AsyncGenerator[Outputs]:
    """The model's answers, as it yields them. An endpoint that has answered once is not given up for another."""
    version = errand.version
    deadline = asyncio.get_running_loop().time() + errand.seconds
    failure: ModelUnavailable | None = None
    for where in (_known, _elsewhere):
        for endpoint in await where(errand):
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                raise failure or _nowhere()
            answered = False
            answers = gateway.stream(
                endpoint,
                version.triton_name,
                errand.request,
                timeout=remaining,
                request_id=errand.request_id,
                stoppable=version.decoupled,
            )
            try:
                with scheduler.running(endpoint, version.triton_name):
                    async with aclosing(answers):
                        async for outputs in answers:
                            answered = True
                            yield outputs
                return
            except ModelUnavailable as error:
                failure = await _noted(version, endpoint, error)
                if answered:
                    raise
    raise failure or _nowhere()


async def _known(errand: Errand) -> list[str]:
    return _ranked(errand.endpoints, errand.version)


async def _elsewhere(errand: Errand) -> list[str]:
    """Where it is loaded by now, perhaps, when none of those answered that were known a second ago."""
    if not errand.hinted:
        return []
    forget_endpoints_of(errand.version.pk)
    others = [each for each in await endpoints_of(errand.version.pk) if each not in errand.endpoints]
    return _ranked(others, errand.version)


def _ranked(endpoints: Sequence[str], version: ModelVersion) -> list[str]:
    return scheduler.ranked([each for each in endpoints if each in settings.TRITON_URLS], version.triton_name)


async def _noted(version: ModelVersion, endpoint: str, error: ModelUnavailable) -> ModelUnavailable:
    if isinstance(error, gateway.ModelBroken):
        await looked_up(mark_broken(version.pk, endpoint, error.message))
        forget_endpoints_of(version.pk)
    return error


def _nowhere() -> ModelUnavailable:
    return ModelUnavailable(
        _("No server has this version loaded just now; it is being loaded."), retry_after_ms=2000, path="input.model"
    )
