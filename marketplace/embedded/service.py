"""What the supervisor needs to know of a long-running program, and the one kind of failure it explains to people."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field


class StartFailed(Exception):
    """Something a person must mend before the servers can run. The message says what, and how."""


async def _at_once(pid: int) -> bool:
    return True


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Service:
    """A program that stays in the foreground.

    `address` is what other programs reach it by (a URL, None where nothing listens), `addresses` further ones by name.
    `prepare` runs before every start. `sweep` removes what a dead process leaves behind; it runs before every start as
    well, for the predecessor may have been killed, and after the last stop. `ready` takes the process id. Lines that
    hold one of `noise` are not worth a person's time.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = _nothing
    sweep: Callable[[], None] = _nothing
    ready: Callable[[int], Awaitable[bool]] = _at_once
    noise: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
