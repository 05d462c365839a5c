"""A set of servers for the length of one command: what `make test` runs in."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import runfile, servers
from .child import Child, start_together
from .log import Log
from .process import MARK, dying_with_us
from .service import StartFailed


async def execute(command: Sequence[str]) -> int:
    """Run a command with DATABASE_URL, VALKEY_URL, TRITON_URLS, DATA_DIR and SECRET_KEY set, and give its exit status.

    128 + n when signal n ended it, as a shell has it. Servers that the environment names already are used as they are.
    What the servers say goes to DATA_DIR/servers.log, and to stderr when they do not start.
    """
    us = asyncio.current_task()
    assert us is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, us.cancel)
    data_dir = Path(tempfile.mkdtemp(prefix="marketplace-"))
    children: list[Child] = []
    words = data_dir / "servers.log"
    try:
        with words.open("w") as stream:
            chosen = await asyncio.to_thread(servers.services, data_dir, os.environ, throwaway=True)
            log = Log(stream)
            for service in chosen:
                children.append(
                    Child(
                        service,
                        environment=os.environ | {MARK: str(data_dir)},
                        journal=log,
                        changed=lambda: runfile.write(data_dir, children),
                    )
                )
            try:
                await start_together(children)
                environment = os.environ | servers.variables(chosen)
                environment |= {"DATA_DIR": str(data_dir), "SECRET_KEY": secrets.token_urlsafe(48)}
                return await _run(command, environment)
            finally:
                await asyncio.gather(*(child.stop() for child in children))
    except StartFailed:
        sys.stderr.write(words.read_text())
        raise
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """It keeps our terminal and our process group, so that Ctrl-C and a debugger reach it as if we were not there."""
    try:
        # Not awaited: no signal can slip in between its start and the handlers that pass signals on to it.
        process = subprocess.Popen(  # noqa: ASYNC220
            command,
            env=environment,
            preexec_fn=dying_with_us(signal.SIGTERM),  # noqa: PLW1509  (it runs one system call)
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, process.send_signal, number)
    code = await asyncio.to_thread(process.wait)
    return code if code >= 0 else 128 - code
