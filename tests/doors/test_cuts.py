"""Streams that are cut: the caller goes, Triton dies, time runs out. The ledger has what was delivered, and no more."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from inference import gateway
from marketplace.embedded import triton as embedded
from marketplace.embedded.process import Process
from tests.doors import counter
from tests.doors.site import Site
from tests.inference.processes import Silence


@pytest_asyncio.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[tuple[str, Process]]:
    """A Triton of its own: its gRPC address, and the process to kill."""
    service = embedded.service(tmp_path / "triton", throwaway=True)
    process = await Process.start(service, os.environ, Silence())
    while not await gateway.is_server_live(service.addresses["grpc"]):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    yield service.addresses["grpc"], process
    process.kill()
    await process.wait()


async def test_triton_dies_on_the_way(site: Site, tmp_path: Path, mortal: tuple[str, Process]) -> None:
    address, triton = mortal
    key = await asyncio.to_thread(counter.put_up, site, address)
    with site.another_server(TRITON_URLS=address) as server:
        async with counter.streaming(server, key, 9, gate=tmp_path / "never", gate_at=3) as stream:
            for _ in range(3):
                await stream.next()
            triton.kill()

            last = (await stream.rest())[-1]

    assert last["errors"][0]["__typename"] == "ModelUnavailable"
    assert await counter.until_charged(site, key) == 4


async def test_triton_dies_before_the_first_answer(site: Site, tmp_path: Path, mortal: tuple[str, Process]) -> None:
    address, triton = mortal
    key = await asyncio.to_thread(counter.put_up, site, address)
    with site.another_server(TRITON_URLS=address) as server:
        async with counter.streaming(server, key, 9, gate=tmp_path / "never", gate_at=0) as stream:
            while not site.holds(key):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            triton.kill()

            (only,) = await stream.rest()

    assert only["errors"][0]["__typename"] == "ModelUnavailable"
    assert await counter.until_charged(site, key) == 0


async def test_time_runs_out_on_the_way(site: Site, tmp_path: Path) -> None:
    key = await asyncio.to_thread(counter.put_up, site, site.triton_grpc)
    with site.another_server(GENERATION_TIMEOUT_SECONDS="1") as server:
        # The first call of a process takes longer than others: it is another one's.
        async with counter.streaming(server, site.keys["owner"], 1) as stream:
            await stream.rest()
        async with counter.streaming(server, key, 9, gate=tmp_path / "never", gate_at=2) as stream:
            last = (await stream.rest())[-1]

    assert (len(stream.events), last["errors"][0]["code"]) == (3, "DEADLINE_EXCEEDED")
    assert await counter.until_charged(site, key) == 3


@pytest.mark.parametrize("taken", [0, 1, 5])
async def test_the_caller_goes(site: Site, tmp_path: Path, taken: int) -> None:
    key = await asyncio.to_thread(counter.put_up, site, site.triton_grpc)
    journal = tmp_path / "journal"
    parameters = {"gate": tmp_path / "never", "gate_at": taken, "journal": journal}
    async with counter.streaming(site.server, key, 9, **parameters) as stream:
        for _ in range(taken):
            await stream.next()
        while not site.holds(key):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    while not journal.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert '"cancelled": true' in journal.read_text()
    assert await counter.until_charged(site, key) == (taken + 1 if taken else 0)
