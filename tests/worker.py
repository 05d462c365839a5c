"""A Celery worker of the product's own, on a Valkey of its own: it takes no task of other tests, nor they of its."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from marketplace.embedded import valkey
from marketplace.embedded.process import PROJECT
from marketplace.embedded.service import Service

# Seconds that a process may take to start, on a machine with other things to do.
PATIENCE = 60


@contextmanager
def broker() -> Iterator[str]:
    """The address of a Valkey, as VALKEY_URL has it."""
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        service = valkey.service(Path(folder) / "data", Path(folder), throwaway=True)
        with subprocess.Popen(service.argv, stdout=subprocess.DEVNULL) as process:
            try:
                asyncio.run(_wait_for(service, process))
                yield service.address
            finally:
                process.terminate()


async def _wait_for(service: Service, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(PATIENCE):
        while not await service.ready(process.pid):
            assert process.poll() is None, "Valkey does not start"
            await asyncio.sleep(0.02)


@contextmanager
def working(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """One task at a time, for whoever tells the VALKEY_URL in `environment`. What it says is in `folder`/worker.log."""
    words = ("worker", "--pool=solo", "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat")
    with (
        (folder / "worker.log").open("wb") as said,
        subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "marketplace.config", *words],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
