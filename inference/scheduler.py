"""Which endpoint answers: D(T, S) = argmax over s in S of f(s, T).

f is the negative of the expected wait: (calls in flight + 1) x the smoothed latency of that version at that endpoint.
Calls that fail count as slow, so that a broken endpoint is asked last. What was learned counts less and less the longer
nobody asks, so that an endpoint that was slow or broken is tried again, and found mended.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp2
from time import monotonic

from marketplace.errors import ModelUnavailable

SMOOTHING = 0.2
FAILURE_SECONDS = 5.0
HALF_LIFE_SECONDS = 5.0


@dataclass(slots=True)
class _Load:
    in_flight: int = 0
    latency: float = 0.0
    learned_at: float = 0.0


class Scheduler:
    """What this process has seen of each (endpoint, model name). Bounded: unknown pairs start even, and oldest go."""

    def __init__(self, most: int = 10_000) -> None:
        self._loads: dict[tuple[str, str], _Load] = {}
        self._most = most

    def ranked(self, places: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The pairs of an endpoint and the model's name there, best first. Equal ones keep their order."""
        return sorted(places, key=self._expected_wait)

    def _expected_wait(self, place: tuple[str, str]) -> float:
        load = self._loads.get(place)
        if load is None:
            return 0.0
        if not load.in_flight:
            return load.latency * exp2((load.learned_at - monotonic()) / HALF_LIFE_SECONDS)
        return (load.in_flight + 1) * load.latency

    @contextmanager
    def running(self, endpoint: str, model_name: str) -> Iterator[None]:
        """Counts a call while it runs and learns from how long it took, in seconds."""
        load = self._loads.get((endpoint, model_name))
        if load is None:
            if len(self._loads) >= self._most:
                self._loads.pop(next(iter(self._loads)))
            load = self._loads[endpoint, model_name] = _Load()
        load.in_flight += 1
        started = monotonic()
        try:
            yield
        except ModelUnavailable:
            _learn(load, FAILURE_SECONDS)
            raise
        else:
            _learn(load, monotonic() - started)
        finally:
            load.in_flight -= 1


def _learn(load: _Load, seconds: float) -> None:
    load.latency += SMOOTHING * (seconds - load.latency) if load.latency else seconds
    load.learned_at = monotonic()
