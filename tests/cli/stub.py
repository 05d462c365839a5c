"""A marketplace that answers as it is told, and keeps what it was asked."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from marketplace.embedded.process import PROJECT

KEY = "mk_a-secret-of-these-tests"


@dataclass
class Answer:
    """`cut`: the connection ends without one."""

    content: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stub:
    """Gives `answers` in turn, the last one for good."""

    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def stub(*answers: Answer) -> Iterator[Stub]:
    told = Stub(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            answer = told.next()
            if answer.cut:
                self.close_connection = True
                return
            content = b"" if answer.content is None else json.dumps(answer.content).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_HEAD = _answer

        def log_message(self, *_arguments: object) -> None:
            """Not into the output of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def marketplace(*words: str, url: str, cache: Path, key: str | None = KEY) -> "subprocess.CompletedProcess[str]":
    """The command as it is installed, in an environment of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT / "cli"), "XDG_CACHE_HOME": str(cache)}
    environment |= {"MARKETPLACE_URL": url} | ({} if key is None else {"MARKETPLACE_API_KEY": key})
    command = [sys.executable, "-W", "error", "-m", "marketplace_cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
