"""Which processes of which server run what."""

import pytest

from inference.deployment import stubs
from tests.inference import ensembles, graphs
from tests.inference.conftest import Deploy


async def test_a_model_has_its_processes_and_their_memory(triton: str, deploy: Deploy) -> None:
    name = await deploy(graphs.add())

    found = (stubs.running(triton) or {})[name]

    assert found.count == 1
    assert found.memory_bytes > 30 * 10**6


async def test_an_ensemble_has_those_of_its_steps(triton: str, deploy: Deploy) -> None:
    name = await deploy(ensembles.pipeline(ensembles.words("a", "b")), "ensemble")

    assert (stubs.running(triton) or {})[name].count == 1


async def test_another_servers_are_not_counted(triton: str, deploy: Deploy, unused_tcp_port: int) -> None:
    await deploy(graphs.add())

    assert stubs.running(f"127.0.0.1:{unused_tcp_port}") == {}


@pytest.mark.parametrize("endpoint", ["triton:8001", "192.0.2.1:8001"])
def test_nobody_can_tell_of_another_machine(endpoint: str) -> None:
    assert stubs.running(endpoint) is None
