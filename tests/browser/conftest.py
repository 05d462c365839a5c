"""The whole site, served over a real PostgreSQL and a real Triton, in a real browser."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from psycopg import sql
from psycopg.conninfo import make_conninfo

from demo.build import babbler
from tests.ports import free_port
from tests.worker import broker

PROJECT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SECONDS_TO_START = 60


@dataclass
class Site:
    url: str
    passwords: dict[str, str]
    api_keys: dict[str, str]
    # What its processes are started with. Nobody else hears what they tell VALKEY_URL, nor answers.
    environment: dict[str, str]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The demo marketplace, in a database of its own: other tests roll back or flush theirs."""
    if not CHROMIUM.exists():
        reason = f"There is no {CHROMIUM}: the browser tests cannot run. `make browser` installs it on Debian, as root."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    data_dir = tmp_path_factory.mktemp("site")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with database(f"browser_{secrets.token_hex(6)}") as address, broker() as valkey:
        environment = os.environ | {
            "DATABASE_URL": address,
            "VALKEY_URL": valkey,
            "DATA_DIR": str(data_dir),
            "PORT": str(port),
            "GRPC_PORT": str(free_port()),
            "PUBLIC_URL": url,
            "SECRET_KEY": "a secret of these tests alone",
        }

        def manage(*command: str) -> None:
            subprocess.run([sys.executable, "manage.py", *command], cwd=PROJECT, env=environment, check=True)

        manage("migrate", "--verbosity=0")
        manage("createcachetable")
        manage("collectstatic", "--no-input", "--verbosity=0")
        # The language model of the demo, in small.
        babbler.build(data_dir / "smollm2.zip")
        manage("load_demo")
        manage("reconcile")
        demo = json.loads((data_dir / "demo.json").read_text())
        log = data_dir / "web.log"
        with log.open("wb") as output, serve(environment, output):
            wait_for(f"{url}/healthz", log)
            passwords = {user["email"]: user["password"] for user in demo["users"]}
            yield Site(url, passwords, demo["apiKeys"], environment)
        # Triton outlives us: it must not keep what nobody wants any more.
        with psycopg.connect(address) as connection:
            connection.execute("UPDATE catalog_modelversion SET status = 'RETIRED'")
        manage("reconcile")


@contextlib.contextmanager
def database(name: str) -> Iterator[str]:
    server = os.environ["DATABASE_URL"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def serve(environment: dict[str, str], output: Any) -> Iterator[None]:
    server = subprocess.Popen(
        [sys.executable, "-m", "marketplace.config.server"],
        cwd=PROJECT,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(timeout=SECONDS_TO_START)


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.1)
    pytest.fail(f"The site did not start:\n{log.read_text()}")


@pytest_asyncio.fixture
async def chromium() -> AsyncIterator[Browser]:
    # Root (as in a container) cannot have Chromium's sandbox; the pages are our own.
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Visitor:
    """A browser of one person. `complaints` is what no page of ours may cause: errors in the console or in scripts,
    requests to anywhere else, requests that fail."""

    def __init__(self, site: Site, context: BrowserContext, page: Page) -> None:
        self.site = site
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        # htmx reports each request that it loses because the visitor moved on; those that fail are counted below.
        page.on(
            "console",
            lambda line: self._complain(
                line.text, line.type in ("error", "warning") and not line.text.startswith("htmx:")
            ),
        )
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on(
            "requestfailed",
            lambda request: self._complain(f"{request.url}: {request.failure}", not self._left(request)),
        )
        page.on(
            "request",
            lambda request: self._complain(request.url, not request.url.startswith((site.url, "data:", "blob:"))),
        )

    def _complain(self, text: str, really: bool = True) -> None:
        if really:
            self.complaints.append(text)

    @staticmethod
    def _left(request: Any) -> bool:
        """A request that the browser gave up because the visitor moved on, or typed on."""
        return "ERR_ABORTED" in (request.failure or "")

    async def open(self, path: str) -> None:
        await self.page.goto(self.site.url + path)

    async def sign_in(self, email: str) -> None:
        await self.open("/accounts/login/")
        await self.page.get_by_label("Email").fill(email)
        await self.page.get_by_label("Password").fill(self.site.passwords[email])
        await self.page.get_by_role("main").get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(self.site.url + "/")


@pytest_asyncio.fixture
async def visit(site: Site, chromium: Browser) -> AsyncIterator[Any]:
    """`visitor = await visit(width=390)`: a browser with nothing in it. Afterwards nobody may have had to complain."""
    visitors: list[Visitor] = []

    async def begin(email: str | None = None, *, width: int = 1280, **options: Any) -> Visitor:
        context = await chromium.new_context(viewport={"width": width, "height": 900}, **options)
        visitor = Visitor(site, context, await context.new_page())
        visitors.append(visitor)
        if email is not None:
            await visitor.sign_in(email)
        return visitor

    yield begin
    for visitor in visitors:
        await visitor.context.close()
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []
