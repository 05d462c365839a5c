import os
import signal
from pathlib import Path

import pytest
import redis
from kombu import Connection

from marketplace.embedded import sockets, valkey
from marketplace.embedded.service import Service

from .conftest import Kept, alive_with


@pytest.fixture
def service(data_dir: Path) -> Service:
    return valkey.service(data_dir / "valkey", sockets.folder_in(data_dir))


async def test_it_answers_at_its_address_and_on_no_port(service: Service, kept: Kept) -> None:
    await kept.start(service)

    with redis.Redis.from_url(service.address) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}


async def test_celery_reaches_it_by_kombu_s_form_of_the_address(service: Service, kept: Kept) -> None:
    await kept.start(service)
    assert service.address

    with Connection(service.address.replace("unix://", "redis+socket://")) as connection:
        queue = connection.SimpleQueue("things")
        queue.put("one")
        assert queue.get(timeout=5).payload == "one"


async def test_a_killed_one_comes_back_with_its_queues(service: Service, kept: Kept) -> None:
    (child,) = await kept.start(service)
    with redis.Redis.from_url(service.address) as client:
        client.rpush("queue", "task")
    old = child.pid
    assert old

    os.kill(old, signal.SIGKILL)

    assert await kept.restarted(child, old) != old
    with redis.Redis.from_url(service.address) as client:
        assert client.lrange("queue", 0, -1) == [b"task"]


async def test_stopping_leaves_no_process(service: Service, kept: Kept, data_dir: Path) -> None:
    await kept.start(service)

    await kept.stop()

    assert alive_with(str(data_dir)) == []
