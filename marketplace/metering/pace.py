"""How often a proof may run that reads everything there ever was."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class Pace:
    """Rests REST times as long as the last run took, in each process: whatever there is to read, the proof's share of
    the time stays the same."""

    REST = 50

    def __init__(self) -> None:
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        return monotonic() < self._rests_until

    @contextmanager
    def run(self) -> Iterator[None]:
        started = monotonic()
        yield
        self._rests_until = monotonic() + self.REST * (monotonic() - started)
