"""What load generators send and how they check every answer: wrk for HTTP/1.1, h2load for gRPC."""

import asyncio
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .rig import HOST
from .rounds import Sent

# wrk's own script: every answer is checked, and what came out is said in one line.
SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread); thread:set("wrong", 0) end
function response(status, headers, body)
  if status ~= 200 or not string.find(body, %(answer)s, 1, true) then
    wrong, example = wrong + 1, status .. " " .. body
  end
end
function done(summary, latency, requests)
  local failed, shown = 0, ""
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("wrong")
    shown = thread:get("example") or shown
  end
  local e = summary.errors
  failed = failed + e.connect + e.read + e.write + e.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%s\\n", summary.requests, summary.duration,
                         latency:percentile(50), latency:percentile(99), failed, shown))
end
wrk.method = "POST"
wrk.body = io.open(%(body)s, "rb"):read("*a")
%(headers)s
"""


@dataclass(frozen=True)
class HttpTarget:
    """A POST over HTTP/1.1 by wrk, one thread. Each answer has status 200 and `answer` somewhere in its body."""

    name: str
    port: int
    path: str
    body: bytes
    headers: dict[str, str]
    answer: str
    processes: dict[str, int]

    async def send(self, callers: int, seconds: float) -> Sent:
        with tempfile.TemporaryDirectory() as folder:
            script = self._written(Path(folder))
            output = await _said_by(
                *("wrk", "--threads", "1", "--connections", str(callers), "--duration", f"{seconds:.0f}s"),
                *("--timeout", "10s", "--script", str(script), f"http://{HOST}:{self.port}{self.path}"),
            )
        said = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
        if said is None:
            raise RuntimeError(f"wrk said: {output}")
        _, calls, duration, p50, p99, failed, *example = said.split(" ", 6)
        if int(failed):
            raise RuntimeError(f"{failed} of {calls} answers were wrong, such as {' '.join(example)[:2000]}")
        return Sent(int(calls), int(calls) / int(duration) * 1e6, int(p50) / 1000, int(p99) / 1000)

    def _written(self, folder: Path) -> Path:
        body, script = folder / "body", folder / "script.lua"
        body.write_bytes(self.body)
        headers = "\n".join(f"wrk.headers[ {_lua(name)} ] = {_lua(value)}" for name, value in self.headers.items())
        script.write_text(SCRIPT % {"answer": _lua(self.answer), "body": _lua(str(body)), "headers": headers})
        return script


@dataclass(frozen=True)
class GrpcTarget:
    """A unary gRPC method by h2load, one thread, each caller on a connection of its own.

    h2load reads no trailers. But a failure has no message, and answers are all as long as `answer` is: so their bytes
    are counted. `message` and `answer` as they are serialized.
    """

    name: str
    port: int
    method: str
    message: bytes
    answer: bytes
    metadata: dict[str, str]
    processes: dict[str, int]

    async def send(self, callers: int, seconds: float) -> Sent:
        tried = await self._send(callers, 10 * callers)
        return await self._send(callers, max(int(tried.rate * seconds), callers))

    async def _send(self, callers: int, calls: int) -> Sent:
        with tempfile.TemporaryDirectory() as folder:
            body, log = Path(folder, "body"), Path(folder, "log")
            await asyncio.to_thread(body.write_bytes, _framed(self.message))
            metadata = {"content-type": "application/grpc", "te": "trailers", **self.metadata}
            output = await _said_by(
                *("h2load", "--requests", str(calls), "--clients", str(callers), "--connection-active-timeout", "60"),
                *(word for name, value in metadata.items() for word in ("--header", f"{name}: {value}")),
                *("--data", str(body), f"--log-file={log}", f"http://{HOST}:{self.port}/{self.method}"),
            )
            lines = (await asyncio.to_thread(log.read_text)).splitlines()
        succeeded, received = _found(r"(\d+) succeeded", output), _found(r"\((\d+)\) data", output)
        expected = calls * len(_framed(self.answer))
        if succeeded != calls or received != expected:
            raise RuntimeError(f"{received} bytes of answers, not {expected}. h2load said: {output}")
        rows = [line.split("\t") for line in lines]
        waited = sorted(int(row[2]) / 1000 for row in rows)
        took = max(int(row[0]) + int(row[2]) for row in rows) - min(int(row[0]) for row in rows)
        return Sent(calls, calls / took * 1e6, waited[len(waited) // 2], waited[int(len(waited) * 0.99)])


def _framed(message: bytes) -> bytes:
    """As gRPC has it: a byte that says uncompressed, four for the length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _found(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else -1


def _lua(text: str) -> str:
    return "[==[" + text + "]==]"


async def _said_by(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    if process.returncode:
        sys.stderr.write(output)
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return output
