"""What calls tell the reconciler: that a version is waited for, or broken where it is said to be loaded."""

import asyncio
from datetime import datetime
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

# Whoever waits for the same: in which event loop, for which version, and which places are of no use to them.
_Wait = tuple[asyncio.AbstractEventLoop, UUID, frozenset[Place]]
_waits: dict[_Wait, "asyncio.Task[list[Place]]"] = {}


async def loaded_on_demand(version_id: UUID, deadline: float, *, away: frozenset[Place] = frozenset()) -> list[Place]:
    """Has a version loaded that is not, and waits: where it is then. Nowhere when it is not to be loaded, or cannot be.

    `away`: where it is said to be loaded, and nobody answers. All who ask meanwhile wait for one load. `deadline` by
    the event loop's clock; raises ModelUnavailable when it passes.
    """
    loop = asyncio.get_running_loop()
    for_it = (loop, version_id, away)
    wait = _waits.get(for_it)
    if wait is None:
        # A task of its own: a caller who goes away takes it from nobody else.
        wait = _waits[for_it] = asyncio.ensure_future(_loaded(version_id, away))
        wait.add_done_callback(lambda done: _ended(for_it, done))
    done, _pending = await asyncio.wait((wait,), timeout=max(deadline - loop.time(), 0))
    if not done:
        raise ModelUnavailable(
            _("This version was not loaded just now, and is being loaded. Try again in a moment."),
            retry_after_ms=round(1000 * await looked_up(_load_seconds(version_id))),
            path="input.model",
        )
    return wait.result()


async def mark_broken(endpoint: str, name: str, error: str, *, asked_at: datetime) -> None:
    """Has the next round load the version anew: a caller found it dead although Triton says it is ready.

    Not if it was loaded after that caller asked: somebody was sooner, and it is mended.
    """
    changes: dict[str, Any] = {
        "status": DeploymentStatus.FAILED,
        "error": error[:2000],
        "changed_at": timezone.now(),
        "loaded_at": None,
    }
    rows = Deployment.objects.filter(endpoint=endpoint, name=name, status=DeploymentStatus.READY)
    await rows.exclude(loaded_at__gt=asked_at).aupdate(**changes)


def _ended(for_it: _Wait, wait: "asyncio.Task[list[Place]]") -> None:
    del _waits[for_it]
    if not wait.cancelled():
        wait.exception()  # whoever waited may have gone, and then nobody else hears of it


async def _loaded(version_id: UUID, away: frozenset[Place]) -> list[Place]:
    give_up = asyncio.get_running_loop().time() + MOST_SECONDS
    told = False
    while asyncio.get_running_loop().time() < give_up:
        # It may have been loaded just now, after the caller looked.
        found = await looked_up(_deployments(version_id))
        ready = [(row.endpoint, row.name) for row in found if row.status == DeploymentStatus.READY]
        if useful := [place for place in ready if place not in away]:
            forget_endpoints_of(version_id)
            return useful
        coming = [row for row in found if row.status in COMING]
        if not coming:
            return []
        # Whoever was given it first may have seen it given up again.
        if not told or all(row.wanted_at is None for row in coming):
            told = True
            rows = Deployment.objects.filter(version_id=version_id, status__in=COMING)
            await looked_up(rows.aupdate(wanted_at=timezone.now()))
            await sync_to_async(tell_reconciler)()
        await asyncio.sleep(LOOK_SECONDS)
    return []


@sync_to_async
def _deployments(version_id: UUID) -> list[Deployment]:
    return list(Deployment.objects.filter(version_id=version_id))


async def _load_seconds(version_id: UUID) -> float:
    """What it took the last time, at least a second."""
    took = await Deployment.objects.filter(version_id=version_id).aaggregate(most=Max("load_seconds"))
    return max(1.0, USUAL_LOAD_SECONDS if took["most"] is None else took["most"])
