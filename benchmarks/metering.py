"""Metering alone: batched against one by one, interleaved, beside a PostgreSQL that syncs every commit to its disk.

    .venv/bin/python -m benchmarks.metering [CALLERS] [TENANTS]

Then an admission alone, of a reference that a canary, a pin or a shadow has something to do with, against one without.

One process of callers, each of whom admits and settles in turn, beside PostgreSQL on the same machine. A decision is
one admit or one settle. "One by one" is the same code with batches of one, on as many connections as the pool has.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from marketplace.embedded import postgres
from marketplace.embedded.child import Child
from marketplace.embedded.log import Log

ROUNDS = 9
SECONDS = 1.5
ADMISSIONS = 500


def measure(callers: int, tenants: int) -> None:
    import django  # noqa: PLC0415  (the settings need the address of a server that has just been started)

    django.setup()

    from decimal import Decimal  # noqa: PLC0415

    from django.core.management import call_command  # noqa: PLC0415

    from marketplace.access import Principal  # noqa: PLC0415
    from marketplace.metering import admission, connections  # noqa: PLC0415
    from tests import factories  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    version = factories.version(factories.model(factories.tenant(is_publisher=True)))
    plan = factories.plan(version.model, included_units=Decimal(10**9), requests_per_second=10**6, burst=10**6)
    principals = []
    for _ in range(tenants):
        tenant = factories.tenant()
        factories.subscription(tenant, plan)
        key = factories.api_key_row(tenant)
        principals.append(Principal(tenant_id=tenant.pk, api_key_id=key.pk, role=factories.TenantRole.DEVELOPER))

    async def batched(principal: Principal) -> None:
        admitted = await admission.admit(principal, version_id=version.pk, most_seconds=10, lease=60)
        assert await admission.settle(admitted.hold_id, latency_ms=1.0)

    async def one_by_one(principal: Principal) -> None:
        hold = admission.uuid.uuid7()
        who = (principal.tenant_id, principal.api_key_id, None)
        (row,) = await admission._admit([(hold, *who, version.pk, 1, 10, None, None, 60.0, *admission.NO_HINT)])
        assert not isinstance(row, BaseException), row
        assert row[0] == "admitted", row
        assert await admission._settle([(hold, 1.0, None, None, None)]) == [1]

    def answered(name: str) -> tuple[Principal, object, admission.Hint]:
        """Who calls `name`, the version that answers, and what the caller goes by."""
        model = factories.model(version.model.publisher, name)
        live, other = factories.version(model), factories.version(model, status="READY")
        contract = factories.subscription(
            factories.tenant(),
            factories.plan(model, included_units=Decimal(10**9), requests_per_second=10**6, burst=10**6),
        )
        if name in ("canary", "shadow"):
            type(model).objects.filter(pk=model.pk).update(**{f"{name}_version": other, f"{name}_percent": 100})
        elif name == "pin":
            type(contract).objects.filter(pk=contract.pk).update(pinned_version=other)
        role = factories.TenantRole.DEVELOPER
        key = factories.api_key_row(contract.tenant)
        answers = other if name in ("canary", "pin") else live
        return (
            Principal(tenant_id=contract.tenant_id, api_key_id=key.pk, role=role),
            answers.pk,
            admission.Hint(role, model.ref, None),
        )

    kinds = {name: answered(name) for name in ("neither", "canary", "pin", "shadow")}

    async def admissions() -> None:
        """Of each kind in turns, one by one."""
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ADMISSIONS):
            for name, (principal, version_id, hint) in kinds.items():
                hold = admission.uuid.uuid7()
                who = (principal.tenant_id, principal.api_key_id, None)
                before = perf_counter()
                (row,) = await admission._admit([(hold, *who, version_id, 1, 10, None, None, 60.0, *hint)])
                times[name].append((perf_counter() - before) * 1000)
                assert not isinstance(row, BaseException), row
                assert row[0] == "admitted", row
                assert await admission._settle([(hold, 1.0, None, None, None)]) == [1]
        usual = median(times["neither"])
        for name, found in times.items():
            print(f"admission with {name:8}: {median(found):.2f} ms (p50), {median(found) / usual:.2f}")

    async def rate(way: object, number: int) -> tuple[float, float]:
        """Decisions a second, and the median time of an admit and settle in ms."""
        times: list[float] = []
        started = perf_counter()

        async def caller(n: int) -> None:
            while perf_counter() - started < SECONDS:
                before = perf_counter()
                await way(principals[n % tenants])  # type: ignore[operator]
                times.append((perf_counter() - before) * 1000)

        await asyncio.gather(*(caller(n) for n in range(number)))
        return 2 * len(times) / (perf_counter() - started), median(times)

    async def compare() -> None:
        async with connections.connection() as db:
            for name in ("synchronous_commit", "fsync", "server_version"):
                row = await (await db.execute(f"SHOW {name}")).fetchone()
                print(f"{name} = {row and row[0]}")
        await admissions()
        for number in (1, 8, callers):
            # The pool waits a second for a connection and no longer: one by one, no more callers than can be served.
            results: dict[str, list[tuple[float, float]]] = {"batched": [], "one by one": []}
            for _ in range(ROUNDS):
                results["batched"].append(await rate(batched, number))
                results["one by one"].append(await rate(one_by_one, min(number, 64)))
            rates = {name: median(rate for rate, _ in found) for name, found in results.items()}
            for name, found in results.items():
                print(
                    f"{number:4} callers, {name:10}: {rates[name]:8.0f} decisions/s "
                    f"(of {', '.join(f'{r:.0f}' for r, _ in found)}), admit + settle p50 "
                    f"{median(p50 for _, p50 in found):.2f} ms"
                )
            print(f"{number:4} callers, ratio: {rates['batched'] / rates['one by one']:.2f}")
        await admission.idle()
        await connections.close()

    asyncio.run(compare())


async def beside_postgresql(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="metering-") as folder:
        sockets = Path(folder) / "s"
        sockets.mkdir()
        service = postgres.service(Path(folder) / "postgres", sockets)
        with (Path(folder) / "log").open("w") as words:
            child = Child(service, environment=os.environ, journal=Log(words), changed=lambda: None)
            await child.start()
            try:
                environment = os.environ | {
                    "DATABASE_URL": service.address,
                    "DATA_DIR": folder,
                    "SECRET_KEY": "benchmark",
                    "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
                }
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "benchmarks.metering", "--measure", *arguments, env=environment
                )
                return await process.wait()
            finally:
                await child.stop()


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        callers, tenants, *_more = (int(word) for word in [*sys.argv[2:], *("256", "8")[len(sys.argv) - 2 :]])
        measure(callers, tenants)
    else:
        sys.exit(asyncio.run(beside_postgresql(sys.argv[1:])))


if __name__ == "__main__":
    main()
