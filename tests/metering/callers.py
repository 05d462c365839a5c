"""A process full of callers: `python -m tests.metering.callers`, talked to in lines.

Told a tenant, a version, an API key's id (or "-") and a number, so many callers call at once. It says "under way" at
the first charge or refusal, and, when all of them have been refused for good, how often they were charged. A refusal is
for good once the process was told "changed": before that, whoever is refused waits for this word.
"""

import asyncio
import os
import sys
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()

from marketplace.access import Principal, TenantRole  # noqa: E402
from marketplace.errors import ModelUnavailable, QuotaExceeded, SubscriptionRequired, Unauthenticated  # noqa: E402
from marketplace.metering import connections, doubts  # noqa: E402
from marketplace.metering.admission import admit, idle, settle  # noqa: E402


class Callers:
    def __init__(self, principal: Principal, version: UUID, number: int) -> None:
        self.principal = principal
        self.version = version
        self.number = number
        self.changed = asyncio.Event()
        self.under_way = False
        self.charged = 0

    async def call(self) -> None:
        while True:
            final = self.changed.is_set()
            try:
                admission = await admit(self.principal, version_id=self.version, most_seconds=10, lease=60)
            except (QuotaExceeded, SubscriptionRequired, Unauthenticated):
                self.begun()
                if final:
                    return
                await self.changed.wait()
                continue
            except ModelUnavailable:
                # A slow machine: not admitted, so try again.
                continue
            self.begun()
            try:
                charged = await settle(admission.hold_id, latency_ms=1)
            except ModelUnavailable:
                # It may have been charged, and is refunded then, for the caller was told otherwise.
                continue
            self.charged += charged is not None

    def begun(self) -> None:
        if not self.under_way:
            self.under_way = True
            print("under way", flush=True)

    async def run(self) -> None:
        everybody = asyncio.gather(*(self.call() for _ in range(self.number)))
        assert await asyncio.to_thread(sys.stdin.readline) == "changed\n"
        self.changed.set()
        await everybody
        # Whoever lost patience on a slow machine may have been admitted after all: those units are free again by now.
        await self.quiet()
        await self.call()
        await self.quiet()
        await connections.close()

    async def quiet(self) -> None:
        await idle()
        await doubts.resolved()


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        tenant, version, key, number = line.split()
        principal = Principal(
            tenant_id=UUID(tenant), api_key_id=None if key == "-" else UUID(key), role=TenantRole.DEVELOPER
        )

        async def run(principal: Principal = principal, version: str = version, number: str = number) -> int:
            callers = Callers(principal, UUID(version), int(number))
            await callers.run()
            return callers.charged

        print(asyncio.run(run()), flush=True)


if __name__ == "__main__":
    main()
