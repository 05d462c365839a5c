"""NVIDIA Triton from the `nvidia-pytriton` wheel, which lives in a virtual environment of its own.

Models are loaded through its API alone; the repository on disk stays empty, and nothing it holds outlives it.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from . import libpython
from .probes import http_get
from .service import Service, StartFailed

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = PROJECT / ".venv-triton"
BACKENDS = PROJECT / "inference" / "backends"
LOOPBACK = "127.0.0.1"
# What this Triton calls errors on a machine without a GPU, or of a model that came through its API: all is well.
NOISE = (
    "CUDA driver version is insufficient",
    "CudaDriverHelper has not been initialized",
    "Failed to set config modification time",
    "model not found in any model repository",
)
CACHE_BYTES = 64 * 1024**2
PORTS = range(20_000, 32_000)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  (where Triton's Python backend talks to its stubs)


def service(folder: Path, *, throwaway: bool = False, environment: Path = ENVIRONMENT) -> Service:
    """A server on two free loopback ports with the backends `python` and those of `inference/backends`.

    Its addresses stay for the life of the answer, so that a restarted server is found where it was.
    """
    wheel = _wheel(environment)
    http, grpc = _ports(folder)
    library_folder = libpython.find(environment)
    if library_folder is None:
        raise StartFailed(f"Triton needs {libpython.FILE}: run `make environments`, or set TRITON_URLS")
    # Named for the folder: what we clear away after a kill is never another server's.
    segments = f"marketplace_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}_"
    repository = folder / "repository"

    def prepare() -> None:
        _assemble_backends(folder / "backends", wheel)
        repository.mkdir(parents=True, exist_ok=True)

    def sweep() -> None:
        for segment in SHARED_MEMORY.glob(f"{segments}*"):
            segment.unlink(missing_ok=True)

    async def ready(pid: int) -> bool:
        return (await http_get(LOOPBACK, http, "/v2/health/live"))[0] == 200

    return Service(
        name="triton",
        argv=(
            str(wheel / "bin" / "tritonserver"),
            f"--backend-directory={folder / 'backends'}",
            f"--model-repository={repository}",
            "--model-control-mode=explicit",
            "--exit-on-error=false",
            f"--http-address={LOOPBACK}",
            f"--http-port={http}",
            f"--grpc-address={LOOPBACK}",
            f"--grpc-port={grpc}",
            "--allow-metrics=false",
            # For the versions whose publishers ask for it.
            f"--cache-directory={wheel / 'caches'}",
            f"--cache-config=local,size={CACHE_BYTES}",
            "--log-info=false",
            f"--backend-config=python,shm-region-prefix-name={segments}",
        ),
        environment={
            "LD_LIBRARY_PATH": f"{wheel.parents[1] / 'nvidia_pytriton.libs'}:{library_folder}",
            # The first python3 on PATH gives the stub its packages; PYTHONPATH is ignored.
            "PATH": f"{environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        },
        address=f"http://{LOOPBACK}:{http}",
        addresses={"http": f"{LOOPBACK}:{http}", "grpc": f"{LOOPBACK}:{grpc}"},
        prepare=prepare,
        sweep=sweep,
        noise=NOISE,
        ready=ready,
        # It has nothing to lose; unloading its models first takes seconds that a test run need not wait.
        stop_signal=signal.SIGKILL if throwaway else signal.SIGTERM,
        stop_seconds=15,
    )


def _wheel(environment: Path) -> Path:
    found = sorted(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not found:
        raise StartFailed(f"no Triton in {environment}: run `make environments`, or set TRITON_URLS to one of your own")
    return found[0]


def _python_version(wheel: Path) -> str:
    return wheel.parents[2].name.removeprefix("python")


def _assemble_backends(folder: Path, wheel: Path) -> None:
    """Copy the wheel's Python backend, the stub for this Python, and our own Python-based backends side by side."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(wheel / "backends" / "python", folder / "python", ignore=shutil.ignore_patterns("__pycache__"))
    stub = wheel / "python_backend_stubs" / _python_version(wheel) / "triton_python_backend_stub"
    shutil.copy2(stub, folder / "python" / stub.name)
    for backend in _own_backends():
        shutil.copytree(backend, folder / backend.name, ignore=shutil.ignore_patterns("__pycache__"))


def _own_backends() -> Iterator[Path]:
    return (model.parent for model in BACKENDS.glob("*/model.py"))


def _ports(folder: Path) -> tuple[int, int]:
    """Those of the last run where they are still free: what names a server by its address goes on to be true."""
    kept = folder / "ports"
    try:
        http, grpc = map(int, kept.read_text().split())
        _bind(http, grpc)
    except (OSError, ValueError):
        http, grpc = _free_ports()
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"{http} {grpc}\n")
    return http, grpc


def _free_ports() -> tuple[int, int]:
    """Below those that the kernel gives to outgoing connections: one of them could take it while Triton restarts."""
    while True:
        http, grpc = random.sample(PORTS, 2)
        with contextlib.suppress(OSError):
            _bind(http, grpc)
            return http, grpc


def _bind(*ports: int) -> None:
    """Try the ports and let go of them again. Raises OSError when one is taken."""
    with contextlib.ExitStack() as listeners:
        for port in ports:
            listeners.enter_context(socket.create_server((LOOPBACK, port)))
