"""Shadows: what a live version was asked is asked again of another one, once the answer has left, and compared.

Nobody waits for it and nobody is charged: there is no hold. What is more than a process can do on the side is dropped.
Findings are counted in memory, and added up in one row for each pair of versions once in a round. A round's calls are
written there before Triton is asked (`asked`): so a process that dies has not made calls that nobody knows of, and
reconciliation.py can tell them from calls that nobody paid for.
"""

import asyncio
import contextvars
import logging
from collections import defaultdict
from dataclasses import dataclass, fields
from time import perf_counter
from typing import LiteralString, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings

from marketplace.catalog.models import ModelVersion
from marketplace.errors import MarketplaceError
from marketplace.hints import Hints
from marketplace.metering.connections import connection

from . import dispatch
from .comparison import Likeness, compare
from .records import looked_up
from .tensors import InferenceRequest, Tensor
from .versions import endpoints_of

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
# Of a round, in one process. Those who ask more than that are a sample of themselves.
MOST_WAITING = 100
MOST_BYTES = 32 * 1024 * 1024
AT_ONCE = 2

_WRITE: LiteralString = """
INSERT INTO inference_shadowcomparison AS c
       (shadow_id, live_id, asked, equal, close, different, mismatched, failed, dropped, shadow_ms, live_ms,
        max_difference, since, updated_at)
SELECT a.*, clock_timestamp(), clock_timestamp()
  FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[], %s::int[],
              %s::float8[], %s::float8[], %s::float8[]) AS a
    ON CONFLICT (shadow_id, live_id) DO UPDATE
   SET asked = c.asked + excluded.asked, equal = c.equal + excluded.equal, close = c.close + excluded.close,
       different = c.different + excluded.different, mismatched = c.mismatched + excluded.mismatched,
       failed = c.failed + excluded.failed, dropped = c.dropped + excluded.dropped,
       shadow_ms = c.shadow_ms + excluded.shadow_ms, live_ms = c.live_ms + excluded.live_ms,
       max_difference = greatest(c.max_difference, excluded.max_difference), updated_at = excluded.updated_at
"""


class Answered(NamedTuple):
    """A call that has been answered, as its caller asked for it; `latency_ms` at the model."""

    id: UUID
    version: ModelVersion
    request: InferenceRequest
    outputs: tuple[Tensor, ...]
    latency_ms: float

    @property
    def size(self) -> int:
        return sum(len(tensor.content) for tensor in (*self.request.inputs, *self.outputs))


def mirror(call: Answered) -> None:
    """Has it asked again, later, if its model has a shadow and the call falls into its share. Returns at once."""
    model = call.version.model
    if (
        model.shadow_version_id is not None
        and call.version.pk == model.live_version_id
        and not call.version.decoupled
        # The last bits of a version 7 UUID are random (RFC 9562).
        and call.id.int % 100 < model.shadow_percent
    ):
        _of_this_loop().add(Pair(model.shadow_version_id, call.version.pk), call)


async def idle() -> None:
    """Returns once this event loop has asked, compared and written down whatever waited."""
    await _of_this_loop().idle()


class Pair(NamedTuple):
    shadow: UUID
    live: UUID


@dataclass(slots=True)
class Findings:
    """Calls by what became of them, and of those compared how long both versions took together, in milliseconds."""

    asked: int = 0
    equal: int = 0
    close: int = 0
    different: int = 0
    mismatched: int = 0
    failed: int = 0
    dropped: int = 0
    shadow_ms: float = 0.0
    live_ms: float = 0.0
    max_difference: float | None = None


_COUNTS = [each.name for each in fields(Findings)]

# Its number and model never change; whether it can still be called, hardly matters.
_versions: Hints[UUID, ModelVersion] = Hints(most=1000, seconds=30.0)


class _Shadows:
    """This event loop's."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Pair, Answered]] = []
        self._bytes = 0
        self._findings: defaultdict[Pair, Findings] = defaultdict(Findings)
        self._rounds: asyncio.Task[None] | None = None

    def add(self, pair: Pair, call: Answered) -> None:
        if len(self._waiting) >= MOST_WAITING or self._bytes + call.size > MOST_BYTES:
            self._findings[pair].dropped += 1
        else:
            self._waiting.append((pair, call))
            self._bytes += call.size
        if self._rounds is None or self._rounds.done():
            # In a context of its own: it is nobody's request.
            rounds = self._go_round()
            self._rounds = asyncio.get_running_loop().create_task(rounds, context=contextvars.Context())

    async def idle(self) -> None:
        if self._rounds is not None:
            await self._rounds

    async def _go_round(self) -> None:
        while self._waiting or self._findings:
            await asyncio.sleep(ROUND_SECONDS)
            waiting, self._waiting, self._bytes = self._waiting, [], 0
            for pair, _call in waiting:
                self._findings[pair].asked += 1
            findings, self._findings = self._findings, defaultdict(Findings)
            try:
                await _write(findings)
            except Exception as error:  # whatever it is: what nobody has written down is not asked
                log.warning("shadows of %d calls are left out: %s", len(waiting), error)
                for pair, _call in waiting:
                    findings[pair].asked -= 1
                    findings[pair].dropped += 1
                for pair, meanwhile in self._findings.items():
                    findings[pair].dropped += meanwhile.dropped
                self._findings = findings
                continue
            places = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._ask(pair, call, places) for pair, call in waiting))

    async def _ask(self, pair: Pair, call: Answered, places: asyncio.Semaphore) -> None:
        async with places:
            findings = self._findings[pair]
            try:
                version = await _versions.find(pair.shadow, lambda: _version(pair.shadow))
                if version is None:
                    return
                started = perf_counter()
                outputs = await dispatch.infer(
                    dispatch.Errand(
                        version,
                        await endpoints_of(version.pk),
                        call.request,
                        settings.INFERENCE_TIMEOUT_SECONDS,
                        f"shadow-{call.id}",
                    )
                )
                shadow_ms = (perf_counter() - started) * 1000
                # Large ones take a while.
                compared = await asyncio.to_thread(compare, call.outputs, outputs)
            except MarketplaceError:
                findings.failed += 1
                return
            except Exception:
                log.exception("a shadow of %s failed", call.version)
                findings.failed += 1
                return
            findings.shadow_ms += shadow_ms
            findings.live_ms += call.latency_ms
            match compared.likeness:
                case Likeness.EQUAL:
                    findings.equal += 1
                case Likeness.CLOSE:
                    findings.close += 1
                case Likeness.DIFFERENT:
                    findings.different += 1
                case Likeness.MISMATCHED:
                    findings.mismatched += 1
            if compared.difference is not None:
                findings.max_difference = max(findings.max_difference or 0.0, compared.difference)


async def _version(version_id: UUID) -> ModelVersion | None:
    rows = ModelVersion.objects.select_related("model").filter(pk=version_id)
    found: ModelVersion | None = await looked_up(rows.afirst())
    return found


async def _write(findings: dict[Pair, Findings]) -> None:
    # In one order everywhere, so that no two processes wait for each other.
    pairs = sorted(findings)
    columns = [[getattr(findings[pair], name) for pair in pairs] for name in _COUNTS]
    async with connection() as db:
        await db.execute(_WRITE, [[pair.shadow for pair in pairs], [pair.live for pair in pairs], *columns])


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Shadows] = WeakKeyDictionary()


def _of_this_loop() -> _Shadows:
    loop = asyncio.get_running_loop()
    if loop not in _by_loop:
        _by_loop[loop] = _Shadows()
    return _by_loop[loop]
