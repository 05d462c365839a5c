"""`make run`: everything started in order, kept running, and stopped in order."""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from pathlib import Path

from . import greeting, guard, leftovers, runfile, servers
from .child import Child, start_together
from .log import Log
from .process import MARK, Process
from .service import Service, StartFailed
from .site import Site, StaticFiles, manage

US = "marketplace"
ASK_AGAIN_SECONDS = 0.25
REMIND_SECONDS = 10


class Supervisor:
    """The servers and the site of one data folder."""

    def __init__(self, environment: dict[str, str], log: Log) -> None:
        self.started = time.monotonic()
        self.log = log
        self.data_dir = Path(environment.get("DATA_DIR") or ".data").resolve()
        self.environment = environment | {
            "DATA_DIR": str(self.data_dir),
            "PYTHONUNBUFFERED": "1",
            MARK: str(self.data_dir),
        }
        self.servers: list[Child] = []
        self.site: list[Child] = []

    async def run(self) -> int:
        """Until SIGINT or SIGTERM. Returns the exit status; raises StartFailed with nothing left running."""
        loop = asyncio.get_running_loop()
        told_to_stop = asyncio.Event()

        def on_signal() -> None:
            if told_to_stop.is_set():
                self._say("killing everything")
                for child in (*self.site, *self.servers):
                    child.kill()
            told_to_stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, on_signal)
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with guard.lock(self.data_dir):
            starting = asyncio.create_task(self._start())
            stopping = asyncio.create_task(told_to_stop.wait())
            try:
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    await starting
                    await stopping
            finally:
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError, StartFailed):
                    await starting
                await self._stop()
        return 0

    async def _start(self) -> None:
        if ended := await asyncio.to_thread(leftovers.end_all, self.data_dir):
            self._say(f"the last run was killed; ended what it left running (processes {', '.join(map(str, ended))})")
        runfile.path_in(self.data_dir).unlink(missing_ok=True)
        self._keep_secret_key()
        site = Site(self.environment, self.data_dir)
        guard.check_port(site.host, site.port, "PORT")
        guard.check_port(site.host, site.grpc_port, "GRPC_PORT")
        self.environment["PORT"] = str(site.port)

        static = asyncio.create_task(self._collect_static())
        try:
            chosen = await asyncio.to_thread(servers.services, self.data_dir, self.environment)
            self.environment |= servers.variables(chosen)
            self.servers += map(self._child, chosen)
            await start_together(self.servers)
            await self._command(manage("migrate", "--noinput", "--verbosity=0"))
            await static
        finally:
            static.cancel()
        self.site += map(self._child, site.services())
        await asyncio.gather(start_together(self.site), self._load_models())
        await self._until_ready(site)
        for line in greeting.lines(site.url, self.data_dir, private=self.log.coloured):
            self._say(line)
        self._say(f"ready in {time.monotonic() - self.started:.1f} s")

    async def _stop(self) -> None:
        if self.site or self.servers:
            self._say("stopping")
        # Calls that are under way may still finish: what they need goes last.
        for children in (self.site, self.servers):
            await asyncio.gather(*(child.stop() for child in children))
        runfile.path_in(self.data_dir).unlink(missing_ok=True)

    async def _until_ready(self, site: Site) -> None:
        reminded = time.monotonic()
        while True:
            status, body = await site.get("/readyz")
            if status == 200:
                return
            if time.monotonic() - reminded > REMIND_SECONDS:
                reminded = time.monotonic()
                self._say(f"not ready yet: {body.strip() or 'no answer'}")
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _load_models(self) -> None:
        await self._command(manage("load_demo"))
        await self._command(manage("reconcile", "--skip-checks"))

    async def _collect_static(self) -> None:
        files = StaticFiles(self.data_dir)
        if not files.current:
            await self._command(manage("collectstatic", "--noinput", "--clear", "--verbosity=0"))
            files.collected()

    async def _command(self, service: Service) -> None:
        """Run a command to its end. Raises StartFailed when it fails."""
        process = await Process.start(service, self.environment, self.log)
        try:
            code = await process.wait()
        finally:
            process.kill()
        if code:
            raise StartFailed(f"{service.name} {process.ending}; what it said is above.")

    def _child(self, service: Service) -> Child:
        return Child(service, environment=self.environment, journal=self.log, changed=self._write_runfile)

    def _write_runfile(self) -> None:
        runfile.write(self.data_dir, (*self.site, *self.servers))

    def _keep_secret_key(self) -> None:
        """Draw it at the first start, for a key that changes would sign everybody out."""
        path = self.data_dir / "secret_key"
        if not path.exists():
            fresh = path.with_suffix(".new")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
            fresh.replace(path)

    def _say(self, text: str) -> None:
        self.log.line(US, text)
