"""A process full of callers: `python -m tests.metering.callers TENANT VERSION CALLERS`.

Says "ready", waits for a line, lets every caller call until the quota is used up, and prints how many were charged.
"""

import asyncio
import os
import sys
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()

from marketplace.access import Principal, TenantRole  # noqa: E402
from marketplace.errors import ModelUnavailable, QuotaExceeded  # noqa: E402
from marketplace.metering import connections  # noqa: E402
from marketplace.metering.admission import admit, idle, settle  # noqa: E402


async def call(principal: Principal, version: UUID) -> int:
    charged = 0
    while True:
        try:
            admission = await admit(principal, version_id=version, most_seconds=10, lease=60)
        except QuotaExceeded:
            return charged
        except ModelUnavailable:
            # A slow machine: not admitted, so try again.
            continue
        charged += await settle(admission.hold_id, latency_ms=1) is not None


async def main(tenant: UUID, version: UUID, callers: int) -> None:
    principal = Principal(tenant_id=tenant, role=TenantRole.DEVELOPER)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(sum(await asyncio.gather(*(call(principal, version) for _ in range(callers)))), flush=True)
    await idle()
    await connections.close()


if __name__ == "__main__":
    asyncio.run(main(UUID(sys.argv[1]), UUID(sys.argv[2]), int(sys.argv[3])))
