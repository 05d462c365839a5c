"""What one Triton is to have loaded, against what it has: what to load, what to give up, what may take calls.

Nothing here asks anybody anything: a round reads the database and the servers in a constant number of questions, and
compares them here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from inference.gateway import Statistics
from inference.models import DeploymentStatus as Status

LONGEST_RETRY = timedelta(minutes=5)

# Of a Python-based backend's process, before it has read its model; and what a model takes in memory of what it takes
# on disk: its file, its weights as they are laid out to run, and room to run them in.
PROCESS_BYTES = 96 * 1024**2
MEMORY_PER_BYTE = 3
TAKES_MEMORY = frozenset({Status.READY, Status.DRAINING})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that may be called. `kept`: it stays loaded, however long nobody calls it."""

    version_id: UUID
    name: str
    memory_bytes: int
    live: bool
    releasing: bool
    kept: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A Deployment of the endpoint in question."""

    pk: int
    version_id: UUID
    name: str
    status: str
    failures: int
    changed_at: datetime
    memory_bytes: int
    processes: int
    used_at: datetime | None
    wanted_at: datetime | None

    @property
    def retries_at(self) -> datetime:
        return self.changed_at + min(timedelta(seconds=2**self.failures), LONGEST_RETRY)

    @property
    def is_waited_for(self) -> bool:
        """By a caller, since it takes no calls."""
        return self.wanted_at is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server has loaded by name, steps among them, and how many processes run each; None: nobody can tell."""

    models: Mapping[str, Statistics]
    processes: Mapping[str, int] | None = None

    def runs(self, row: Row) -> bool:
        if row.name not in self.models:
            return False
        return self.processes is None or self.processes.get(row.name, 0) >= row.processes

    def used_at(self, name: str) -> datetime | None:
        last_call = self.models[name].last_call if name in self.models else 0
        return datetime.fromtimestamp(last_call / 1000, UTC) if last_call else None


@dataclass(slots=True)
class Plan:
    """`loads`: what to load, the most urgent first; `chill`: rows that give up their memory; `revive`: rows that take
    calls again after all; `leaving`: rows to unload once nobody calls them; `lost`: rows of what is gone already;
    `cold`: versions to be loaded when somebody calls them; `refused`: those that are larger than the whole server."""

    ready: set[UUID] = field(default_factory=set)
    loads: list[Wanted] = field(default_factory=list)
    chill: list[int] = field(default_factory=list)
    revive: list[int] = field(default_factory=list)
    leaving: list[Row] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    cold: list[Wanted] = field(default_factory=list)
    refused: list[Wanted] = field(default_factory=list)


def estimate(size_bytes: int, instance_count: int, peak_bytes: int | None) -> int:
    """How much memory a version takes while it is loaded; `peak_bytes`: as much as its trial took, if there was one."""
    return instance_count * (peak_bytes or PROCESS_BYTES + MEMORY_PER_BYTE * size_bytes)


def plan(
    wanted: Mapping[UUID, Wanted],
    rows: Iterable[Row],
    seen: Seen,
    now: datetime,
    *,
    loading: Collection[UUID] = (),
    budget: int = 0,
) -> Plan:
    """For one endpoint. `loading`: versions that are being loaded or unloaded there; `budget` in bytes, 0 for none."""
    made = Plan()
    current: dict[UUID, Row] = {}
    # Loaded with other settings: they take the calls until their versions are loaded with these.
    before: dict[UUID, Row] = {}
    for row in rows:
        version = wanted.get(row.version_id)
        if version is not None and row.name == version.name:
            current[row.version_id] = row
        elif row.version_id in loading:
            continue
        elif version is None or row.status != Status.READY:
            made.leaving.append(row)
        elif seen.runs(row):
            made.ready.add(row.version_id)
            before[row.version_id] = row
        else:
            made.lost.append(row.pk)
    staying = _staying(wanted, current | before, seen, budget) if budget else None
    for version_id, version in wanted.items():
        if version_id in loading:
            continue
        known = current.get(version_id)
        stays = staying is None or version_id in staying
        fits = not budget or version.memory_bytes <= budget
        if fits or (known is not None and known.status in TAKES_MEMORY):
            _place(made, version, known, seen, now, stays=stays)
        elif known is None or known.status != Status.FAILED:
            made.refused.append(version)
        if fits and not stays and version_id in before:
            made.chill.append(before[version_id].pk)
    made.loads.sort(key=lambda each: (not each.releasing, not _waited(current.get(each.version_id)), not each.live))
    if budget:
        made.loads = _that_fit(
            made.loads,
            current=current,
            leaving=made.leaving,
            loading=loading,
            wanted=wanted,
            seen=seen,
            budget=budget,
        )
    return made


def _place(made: Plan, version: Wanted, row: Row | None, seen: Seen, now: datetime, *, stays: bool) -> None:
    runs = row is not None and seen.runs(row)
    if row is None:
        (made.loads if stays else made.cold).append(version)
    elif row.status == Status.READY and runs:
        made.ready.add(version.version_id)
        if not stays:
            made.chill.append(row.pk)
    elif row.status == Status.DRAINING and runs:
        if stays:
            made.revive.append(row.pk)
        else:
            made.leaving.append(row)
    elif not stays:
        if row.status != Status.COLD:
            made.chill.append(row.pk)
    elif row.status != Status.FAILED or not row.failures or now >= row.retries_at:
        made.loads.append(version)


def _waited(row: Row | None) -> bool:
    return row is not None and row.is_waited_for


def _staying(wanted: Mapping[UUID, Wanted], rows: Mapping[UUID, Row], seen: Seen, budget: int) -> set[UUID]:
    """As many as there is memory for: first those that must, then those that are in use, the latest first.

    What was given up takes the place of nothing that is loaded, unless somebody waits for it.
    """

    def urgency(version: Wanted) -> tuple[int, float]:
        row = rows.get(version.version_id)
        uses = [version.created_at]
        if row is not None:
            uses += [use for use in (row.used_at, row.wanted_at, seen.used_at(row.name)) if use is not None]
        given_up = row is not None and row.status in {Status.COLD, Status.DRAINING} and not row.is_waited_for
        rank = 0 if version.releasing or version.kept else 2 if given_up else 1
        return rank, -max(uses).timestamp()

    staying, room = set(), budget
    for version in sorted(wanted.values(), key=urgency):
        if version.memory_bytes <= room:
            room -= version.memory_bytes
            staying.add(version.version_id)
    return staying


def _that_fit(
    loads: Sequence[Wanted],
    *,
    current: Mapping[UUID, Row],
    leaving: Iterable[Row],
    loading: Collection[UUID],
    wanted: Mapping[UUID, Wanted],
    seen: Seen,
    budget: int,
) -> list[Wanted]:
    """Those for which the server has room already: others wait until what is to make room for them has left."""
    room = budget - sum(row.memory_bytes for row in (*current.values(), *leaving) if row.name in seen.models)
    room -= sum(wanted[each].memory_bytes for each in loading if each in wanted)
    fitting = []
    for version in loads:
        row = current.get(version.version_id)
        room -= version.memory_bytes
        room += row.memory_bytes if row is not None and row.name in seen.models else 0
        if room < 0:
            break
        fitting.append(version)
    return fitting
