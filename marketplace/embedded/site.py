"""The processes of the marketplace itself, and the commands that must have run before they start."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .probes import http_get
from .process import PROJECT
from .service import Service, StartFailed

APPLICATION = "marketplace.config"
CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", APPLICATION)
# TensorFlow's environment, which a worker of its own converts models with.
CONVERSION = PROJECT / ".venv-convert"
SECONDS_TO_FINISH = 5
# More than DRAIN_SECONDS (20): until then it finishes what callers wait for.
SECONDS_TO_DRAIN = 30


class Site:
    """Where it listens: `host`, and there `port` and `grpc_port`; where it is reached from this machine: `url`."""

    def __init__(self, environment: Mapping[str, str], data_dir: Path) -> None:
        self.host = environment.get("HOST") or "127.0.0.1"
        self.port = _port(environment, "PORT", "8080")
        self.grpc_port = _port(environment, "GRPC_PORT", "8081")
        self.data_dir = data_dir
        self.reached_at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        self.url = f"http://{f'[{self.reached_at}]' if ':' in self.reached_at else self.reached_at}:{self.port}"
        # Requests for any other name may be refused (ALLOWED_HOSTS).
        self.name = urlsplit(environment.get("PUBLIC_URL", "")).hostname or "localhost"

    async def get(self, path: str) -> tuple[int, str]:
        return await http_get(self.reached_at, self.port, path, name=self.name)

    def services(self) -> list[Service]:
        converters = [self._converter()] if CONVERSION.exists() else []
        return [self._web(), self._worker(), *converters, self._beat()]

    def _web(self) -> Service:
        async def ready(pid: int) -> bool:
            return (await self.get("/healthz"))[0] == 200

        return Service(
            name="web",
            argv=(sys.executable, "-m", f"{APPLICATION}.server"),
            address=self.url,
            ready=ready,
            stop_seconds=SECONDS_TO_DRAIN,
        )

    def _worker(self) -> Service:
        return self._taking("worker", "celery", concurrency=2)

    def _converter(self) -> Service:
        return self._taking("converter", "convert", concurrency=1)

    def _taking(self, name: str, queue: str, *, concurrency: int) -> Service:
        """A worker that takes the tasks of that queue."""
        options = (f"--queues={queue}", f"--hostname={name}@%h", f"--concurrency={concurrency}", "--loglevel=WARNING")
        return Service(
            name=name,
            argv=(*CELERY, "worker", *options, "--without-gossip", "--without-mingle"),
            # Root is allowed here (containers), and tasks are JSON: nobody can smuggle code into one.
            environment={"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"},
            stop_seconds=2 * SECONDS_TO_FINISH,
        )

    def _beat(self) -> Service:
        # Kept, so that what is due is known at once after a restart.
        schedule = self.data_dir / "beat"
        return Service(
            name="beat",
            argv=(*CELERY, "beat", "--loglevel=WARNING", "--pidfile=", f"--schedule={schedule / 'schedule'}"),
            prepare=lambda: schedule.mkdir(exist_ok=True),
            stop_seconds=SECONDS_TO_FINISH,
        )


def _port(environment: Mapping[str, str], name: str, usual: str) -> int:
    port = environment.get(name) or usual
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise StartFailed(f"{name} is a number from 1 to 65535, not {port!r}.")
    return int(port)


def manage(command: str, *arguments: str) -> Service:
    """One run of `manage.py`."""
    return Service(name=command, argv=(sys.executable, str(PROJECT / "manage.py"), command, *arguments))


class StaticFiles:
    """Whether the collected static files in `data_dir` are those of the present sources."""

    def __init__(self, data_dir: Path) -> None:
        self._stamp = data_dir / "static.sources"
        self._collected = data_dir / "static"
        self._sources = self._fingerprint()

    @property
    def current(self) -> bool:
        return self._collected.is_dir() and self._stamp.exists() and self._stamp.read_text() == self._sources

    def collected(self) -> None:
        self._stamp.write_text(self._sources)

    def _fingerprint(self) -> str:
        """Our own files by name, size and time; those of packages by the versions that are installed."""
        digest = hashlib.sha256((PROJECT / "requirements.txt").read_bytes())
        folders = (folder for depth in ("*/static", "*/*/static") for folder in PROJECT.glob(depth))
        for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
            status = path.stat()
            digest.update(f"{path.relative_to(PROJECT)} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()
