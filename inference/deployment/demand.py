"""What calls tell the reconciler: that a version is waited for, or broken where it is said to be loaded."""

import asyncio
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from inference.models import Deployment, DeploymentStatus
from inference.records import looked_up
from inference.versions import Place, forget_endpoints_of
from marketplace.errors import ModelUnavailable
from marketplace.publishing.worker import tell_reconciler

LOOK_SECONDS = 0.1
# However long a caller may wait: one who comes later has it asked for again.
MOST_SECONDS = 120.0
USUAL_LOAD_SECONDS = 5.0
# What becomes READY when somebody waits for it.
COMING = (DeploymentStatus.COLD, DeploymentStatus.PENDING, DeploymentStatus.DRAINING)

_waits: dict[tuple[asyncio.AbstractEventLoop, UUID], "asyncio.Task[list[Place]]"] = {}


async def loaded_on_demand(version_id: UUID, deadline: float) -> list[Place]:
    """Has a version loaded that is not, and waits: where it is then. Nowhere when it is not to be loaded, or cannot be.

    All who ask meanwhile wait for one load. `deadline` by the event loop's clock; raises ModelUnavailable when it
    passes.
    """
    loop = asyncio.get_running_loop()
    wait = _waits.get((loop, version_id))
    if wait is None:
        # A task of its own: a caller who goes away takes it from nobody else.
        wait = _waits[loop, version_id] = asyncio.ensure_future(_loaded(version_id))
        wait.add_done_callback(lambda done: _ended((loop, version_id), done))
    done, _pending = await asyncio.wait((wait,), timeout=max(deadline - loop.time(), 0))
    if not done:
        raise ModelUnavailable(
            _("This version was not loaded just now, and is being loaded. Try again in a moment."),
            retry_after_ms=round(1000 * await looked_up(_load_seconds(version_id))),
            path="input.model",
        )
    return wait.result()


async def mark_broken(endpoint: str, name: str, error: str) -> None:
    """Has the next round load the version anew: a caller found it dead although Triton says it is ready."""
    changes: dict[str, Any] = {
        "status": DeploymentStatus.FAILED,
        "error": error[:2000],
        "changed_at": timezone.now(),
        "loaded_at": None,
    }
    rows = Deployment.objects.filter(endpoint=endpoint, name=name, status=DeploymentStatus.READY)
    await rows.aupdate(**changes)


def _ended(place: tuple[asyncio.AbstractEventLoop, UUID], wait: "asyncio.Task[list[Place]]") -> None:
    del _waits[place]
    if not wait.cancelled():
        wait.exception()  # whoever waited may have gone, and then nobody else hears of it


async def _loaded(version_id: UUID) -> list[Place]:
    rows = Deployment.objects.filter(version_id=version_id)
    if not await looked_up(rows.filter(status__in=COMING).aupdate(wanted_at=timezone.now())):
        return []
    await sync_to_async(tell_reconciler)()
    give_up = asyncio.get_running_loop().time() + MOST_SECONDS
    while asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(LOOK_SECONDS)
        found = await looked_up(_where(version_id))
        ready = [(endpoint, name) for endpoint, name, status in found if status == DeploymentStatus.READY]
        if ready:
            forget_endpoints_of(version_id)
            return ready
        if not any(status in COMING for _endpoint, _name, status in found):
            return []
    return []


@sync_to_async
def _where(version_id: UUID) -> list[tuple[str, str, str]]:
    return list(Deployment.objects.filter(version_id=version_id).values_list("endpoint", "name", "status"))


async def _load_seconds(version_id: UUID) -> float:
    """What it took the last time, at least a second."""
    took = await Deployment.objects.filter(version_id=version_id).aaggregate(most=Max("load_seconds"))
    return max(1.0, USUAL_LOAD_SECONDS if took["most"] is None else took["most"])
