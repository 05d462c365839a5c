"""`make soak`: crashes at length, and what the books say afterwards.

    .venv/bin/python -m tests.soak [--minutes 5] [--seed N]

Everything is killed with SIGKILL in turn, at every moment, in an order drawn anew for each round, while callers call.
Prints what was killed and what was counted; exits with 1 when a call was lost, charged twice or answered differently.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from .crashes import EACH_ONCE, Kill, Report, crash
from .product import MOMENTS, SERVICES


def rounds(seconds: float, seed: int) -> Iterator[Kill]:
    """Whole rounds, each of them every service at every moment, until the time is over."""
    order = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield from order.sample(EACH_ONCE, len(EACH_ONCE))


def shown(report: Report) -> str:
    width = max(map(len, MOMENTS))
    lines = ["", f"{'SIGKILL':<{width}}" + "".join(f"{service:>10}" for service in SERVICES)]
    lines += [
        f"{moment:<{width}}" + "".join(f"{report.kills[service, moment]:>10}" for service in SERVICES)
        for moment in MOMENTS
    ]
    lines += ["", *(f"{count:>8} {name}" for name, count in sorted(report.verdict.counts.items())), ""]
    for name in ("lost", "double", "wrong"):
        found = getattr(report.verdict, name)
        lines += [f"{len(found):>8} {name}", *(f"         {each}" for each in found[:50])]
    lines += ["", "PostgreSQL away: slowest refusal, first answer after its return"]
    lines += [
        f"{kind:>8} {max(each.refusals):8.2f} s ({len(each.refusals)} refusals) {each.recovery:8.2f} s"
        for kind, each in report.outages.items()
    ]
    return "\n".join([*lines, "", report.ledger.strip()])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="the last round is finished all the same")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the order of kills")
    arguments = parser.parse_args()
    started = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {words}", flush=True)

    say(f"seed {arguments.seed}")
    data_dir = Path(tempfile.mkdtemp(prefix="soak-"))
    report = None
    try:
        report = uvloop.run(crash(data_dir, rounds(arguments.minutes * 60, arguments.seed), say))
    finally:
        if report is not None and report.verdict.exact:
            shutil.rmtree(data_dir, ignore_errors=True)
        else:
            say(f"journal, database and servers.log are kept in {data_dir}")
    print(shown(report))
    return 0 if report.verdict.exact else 1


if __name__ == "__main__":
    sys.exit(main())
