"""After a release commits, the worker hears of it through Valkey; without Valkey the release stands all the same."""

import json
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from django.conf import settings

from marketplace.catalog.models import ModelVersion, ModelVersionStatus
from marketplace.config.celery import app
from marketplace.publishing.releases import promote_ready, release
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def messages() -> dict[str, str]:
    """Id and name of each task that waits in the queue."""
    with redis.from_url(settings.VALKEY_URL) as valkey:
        waiting = [json.loads(message)["headers"] for message in valkey.lrange("celery", 0, -1)]
    return {headers["id"]: headers["task"] for headers in waiting}


def released() -> ModelVersion:
    openlab = factories.tenant(is_publisher=True)
    version = factories.version(factories.model(openlab), status=ModelVersionStatus.READY)
    return release(factories.principal(openlab), version_id=version.pk)


@pytest.fixture
def _valkey_is_away() -> Iterator[None]:
    away = Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
    away.conf.broker_transport_options = app.conf.broker_transport_options
    away.set_current()
    yield
    app.set_current()


def test_when_the_release_commits() -> None:
    before = messages()
    released()
    told = messages()
    assert "inference.tasks.reconcile" in {told[key] for key in told.keys() - before.keys()}


@pytest.mark.usefixtures("_valkey_is_away")
def test_a_release_stands_without_a_broker() -> None:
    version = released()
    promote_ready([version.pk])
    version.refresh_from_db()
    assert version.status == ModelVersionStatus.LIVE
