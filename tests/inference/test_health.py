"""Alive answers always; ready names what is missing."""

import json
from datetime import timedelta

import pytest
from django.test import AsyncClient
from django.utils import timezone
from pytest_django import Settings

from inference import tasks
from inference.models import Heartbeat

pytestmark = pytest.mark.django_db(transaction=True)


async def missing(client: AsyncClient) -> tuple[int, list[str]]:
    response = await client.get("/readyz")
    return response.status_code, json.loads(response.content)["missing"]


async def test_healthz_answers(async_client: AsyncClient) -> None:
    assert (await async_client.get("/healthz")).status_code == 200


async def test_ready_when_every_part_is_there(async_client: AsyncClient) -> None:
    await Heartbeat.objects.acreate(service="worker", seen_at=timezone.now())

    assert await missing(async_client) == (200, [])


async def test_a_worker_that_was_not_seen_lately_is_missing(async_client: AsyncClient) -> None:
    await Heartbeat.objects.acreate(service="worker", seen_at=timezone.now() - timedelta(minutes=1))

    assert await missing(async_client) == (503, ["worker"])


async def test_servers_that_do_not_answer_are_named(
    async_client: AsyncClient, settings: Settings, unused_tcp_port: int
) -> None:
    settings.TRITON_URLS = [f"127.0.0.1:{unused_tcp_port}"]
    settings.VALKEY_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"

    assert await missing(async_client) == (503, ["worker", "valkey", "triton"])


@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
async def test_health_is_only_read(async_client: AsyncClient, address: str) -> None:
    assert (await async_client.post(address)).status_code == 405


def test_the_heartbeat_task_says_that_the_worker_lives() -> None:
    tasks.heartbeat()
    tasks.heartbeat()

    assert Heartbeat.objects.get().seen_at > timezone.now() - timedelta(seconds=5)
