"""Waiting for what the marketplace does by itself, and telling of it as it happens."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from . import documents
from .failures import Refused, Rejected, TooLate
from .site import Site

# Seconds between two looks.
EVERY = 1.0

Say = Callable[[str], None]


def wait_for_checks(site: Site, ref: str, id: str, seconds: float, say: Say) -> dict[str, Any]:
    """The version once it is READY or LIVE, each step told as it ends. Raises Rejected, TooLate."""
    told: set[str] = set()
    for _ in _looks(seconds, f"{ref} is still being checked."):
        version: dict[str, Any] = site.ask(documents.CHECK, id=id)["node"]
        check = version["check"] or {"steps": [], "reason": "", "advice": ""}
        for step in check["steps"]:
            line = _line(step)
            if line and line not in told:
                told.add(line)
                say(line)
        if version["status"] == "REJECTED":
            raise Rejected(" ".join(filter(None, [f"{ref} is rejected:", check["reason"], check["advice"]])))
        if version["status"] in ("READY", "LIVE"):
            return version
        if version["status"] == "RETIRED":
            raise Refused(f"{ref} is retired.")
    raise AssertionError("looking ends by itself")


def wait_until_it_answers(site: Site, ref: str, id: str, seconds: float, place: str) -> None:
    """Until the version has the `place` ("live" or "canary"). Raises Refused when that is called off, TooLate."""
    for _ in _looks(seconds, f"{ref} does not answer yet: it does once it is loaded and warm."):
        found = site.ask(documents.LIVE, ref=ref.partition("@")[0])["model"]
        if (found[f"{place}Version"] or {}).get("id") == id:
            return
        if (found["releasingVersion"] or {}).get("id") != id:
            raise Refused(f"The release of {ref} was called off.")


def _line(step: dict[str, Any]) -> str:
    """Nothing of what has yet to begin."""
    status = step["status"].lower()
    if status == "pending":
        return ""
    took = f" in {step['seconds']:.1f} s" if step["seconds"] else ""
    return f"{step['name']}: {status}{took}" + (f" - {step['detail']}" if step["detail"] else "")


def _looks(seconds: float, late: str) -> Iterator[None]:
    """At once, and then again and again. Raises TooLate once the time is over."""
    end = time.monotonic() + seconds
    while True:
        yield
        left = end - time.monotonic()
        if left <= 0:
            raise TooLate(late)
        time.sleep(min(EVERY, left))
