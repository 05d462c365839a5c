import base64
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from marketplace.embedded import triton
from marketplace.embedded.process import PROJECT
from marketplace.embedded.service import Service

from .conftest import Kept, alive, alive_with

ADD = PROJECT / "demo" / "catalogue" / "add" / "v1.onnx"
CONFIG = {
    "backend": "onnxruntime",
    "input": [{"name": name, "data_type": "TYPE_FP32", "dims": [-1]} for name in "AB"],
    "output": [{"name": "SUM", "data_type": "TYPE_FP32", "dims": [-1]}],
}


@pytest.fixture
def service(data_dir: Path) -> Service:
    return triton.service(data_dir / "triton")


def post(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(f"{service.address}{path}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return dict(json.loads(answer.read() or b"{}"))


def load_and_add(service: Service) -> list[float]:
    model = base64.b64encode(ADD.read_bytes()).decode()
    parameters = {"config": json.dumps(CONFIG), "file:1/model.onnx": model}
    post(service, "/v2/repository/models/add/load", {"parameters": parameters})
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [2], "data": data}
        for name, data in (("A", [1, 2]), ("B", [10, 20]))
    ]
    answer = post(service, "/v2/models/add/infer", {"inputs": inputs})
    return list(answer["outputs"][0]["data"])


def listening_at(ports: set[int]) -> list[str]:
    """The addresses, as the kernel writes them, at which anything listens on these ports."""
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    pairs = [fields[1].split(":") for fields in lines if fields[3] == "0A"]
    return [address for address, port in pairs if int(port, 16) in ports]


def segments(service: Service) -> list[Path]:
    (prefix,) = (word.rpartition("=")[2] for word in service.argv if "shm-region-prefix-name" in word)
    return list(triton.SHARED_MEMORY.glob(f"{prefix}*"))


async def test_a_plain_onnx_model_loads_and_runs(service: Service, kept: Kept) -> None:
    await kept.start(service)

    assert load_and_add(service) == [11, 22]


async def test_it_listens_on_loopback_only(service: Service, kept: Kept) -> None:
    await kept.start(service)

    addresses = listening_at({int(address.rpartition(":")[2]) for address in service.addresses.values()})
    assert len(addresses) == 2
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}


async def test_a_killed_one_comes_back_where_it_was_without_its_models(service: Service, kept: Kept) -> None:
    (child,) = await kept.start(service)
    load_and_add(service)
    old = child.pid
    assert old
    stubs = [pid for pid in alive_with(str(PROJECT / ".venv-triton")) if pid != old and os.getpgid(pid) == old]
    left = segments(service)
    assert stubs
    assert left

    os.kill(old, signal.SIGKILL)

    assert await kept.restarted(child, old) != old
    assert not any(alive(pid) for pid in stubs)
    assert not set(left) & set(segments(service))
    assert load_and_add(service) == [11, 22]


async def test_stopping_leaves_no_process_and_no_shared_memory(service: Service, kept: Kept, data_dir: Path) -> None:
    await kept.start(service)
    load_and_add(service)

    await kept.stop()

    assert alive_with(str(data_dir)) == []
    assert segments(service) == []


async def test_a_throwaway_one_is_killed_and_leaves_nothing_either(kept: Kept, data_dir: Path) -> None:
    service = triton.service(data_dir / "triton", throwaway=True)
    await kept.start(service)
    load_and_add(service)

    await kept.stop()

    assert alive_with(str(data_dir)) == []
    assert segments(service) == []


def test_a_second_run_keeps_the_ports_of_the_first_while_they_are_free(data_dir: Path) -> None:
    first = triton.service(data_dir / "triton").addresses
    assert triton.service(data_dir / "triton").addresses == first

    host, _, port = first["grpc"].rpartition(":")
    with socket.create_server((host, int(port))):
        assert triton.service(data_dir / "triton").addresses != first
