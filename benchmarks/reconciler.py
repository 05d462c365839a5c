"""What a round of the reconciler costs that finds nothing to do, by how many versions there are.

    .venv/bin/python -m marketplace.embedded exec -- .venv/bin/python -m benchmarks.reconciler [VERSIONS]

Triton is a server in a process of its own that says of every version that it is loaded. The database that DATABASE_URL
names is filled and left behind: give it a throwaway one, as above.
"""

import asyncio
import multiprocessing
import os
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

import django

django.setup()

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from inference import gateway
from inference.deployment import reconciler
from marketplace.metering import connections
from tests import factories
from tests.inference.standin import Loaded, Standin

from .rig import cpu_seconds

ROUNDS = 15

FILL_VERSIONS = """
INSERT INTO catalog_modelversion (
SELECT (jsonb_populate_record(v, jsonb_build_object('id', md5('version' || n)::uuid, 'number', n))).*
  FROM catalog_modelversion v, generate_series(2, %s) AS n WHERE v.number = 1)
"""
FILL_DEPLOYMENTS = """
INSERT INTO inference_deployment (version_id, endpoint, name, status, error, failures, changed_at, loaded_at,
                                  memory_bytes, processes, used_at)
SELECT id, %s, model_id || '-v' || number, 'READY', '', 0, now(), now(), 0, 0, now() FROM catalog_modelversion
"""

WANTED = "UPDATE catalog_modelversion SET status = CASE WHEN number <= %s THEN 'READY' ELSE 'RETIRED' END"


def serve(names: list[str], said: Connection) -> None:
    async def run() -> None:
        server = Standin()
        server.models = {name: Loaded({}, 1_700_000_000_000) for name in names}
        await server.start()
        said.send(server.address)
        await asyncio.Event().wait()

    asyncio.run(run())


def fill(versions: int) -> list[str]:
    """What each of them is called at Triton."""
    factories.version(factories.model(factories.tenant(is_publisher=True)), status="READY")
    with connection.cursor() as cursor:
        cursor.execute(FILL_VERSIONS, [versions])
        cursor.execute("SELECT model_id || '-v' || number FROM catalog_modelversion ORDER BY number")
        return [name for (name,) in cursor.fetchall()]


@dataclass(frozen=True)
class Round:
    """In milliseconds: CPU of this process and of PostgreSQL, and how long it took."""

    cpu: float
    postgresql: float
    took: float


async def measured(postmaster: int) -> Round:
    spent = cpu_seconds(postmaster)
    cpu, took = [], []
    for _ in range(ROUNDS):
        started, before = perf_counter(), process_time()
        await reconciler.reconcile()
        cpu.append((process_time() - before) * 1000)
        took.append((perf_counter() - started) * 1000)
    return Round(median(cpu), (cpu_seconds(postmaster) - spent) * 1000 / ROUNDS, median(took))


def measure(versions: int, names: list[str]) -> Round:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(names[:versions], theirs), daemon=True)
    server.start()
    settings.TRITON_URLS = [ours.recv()]
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE inference_deployment")
        cursor.execute(WANTED, [versions])
        cursor.execute(FILL_DEPLOYMENTS, settings.TRITON_URLS)
        cursor.execute("VACUUM ANALYZE catalog_modelversion, inference_deployment")
        cursor.execute("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text()
        postmaster = int(stat.rpartition(")")[2].split()[1])

    async def run() -> Round:
        try:
            await reconciler.reconcile()
            return await measured(postmaster)
        finally:
            await gateway.close()
            await connections.close()

    try:
        return asyncio.run(run())
    finally:
        server.terminate()
        server.join()


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    call_command("migrate", verbosity=0)
    names = fill(most)
    for versions in (most // 100, most // 10, most):
        found = measure(versions, names)
        print(
            f"{versions:8} versions: {found.cpu:7.1f} ms of CPU, {found.postgresql:7.1f} ms of PostgreSQL's, "
            f"{found.took:7.1f} ms in all",
            flush=True,
        )


if __name__ == "__main__":
    main()
