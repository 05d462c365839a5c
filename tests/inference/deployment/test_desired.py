"""What a round reads of the database: nothing that it knows already, and everything that has changed."""

import pytest
from django.db import connection
from django.utils import timezone

from inference.deployment import desired
from inference.models import Deployment
from tests import factories

pytestmark = pytest.mark.django_db

CHANGES = {
    "a version": "UPDATE catalog_modelversion SET {} WHERE id = (SELECT max(id::text)::uuid FROM catalog_modelversion)",
    "a model": "UPDATE catalog_mlmodel SET {}",
    "a subscription": "UPDATE subscriptions_modelsubscription SET {}",
    "a deployment": "UPDATE inference_deployment SET {}",
}


@pytest.fixture(autouse=True)
def _two_versions_of_which_one_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, model = factories.tenant(), factories.model(factories.tenant(is_publisher=True))
    factories.version(model)
    Deployment.objects.create(version=factories.version(model, status="READY"), endpoint="127.0.0.1:8001")
    factories.subscription(tenant, factories.plan(model))
    monkeypatch.setattr(desired, "_known", desired._Known())
    desired.state()


def read_anew() -> object:
    desired._known = desired._Known()
    return desired.state()


def test_what_has_not_changed_is_not_read_again() -> None:
    wanted, rows = desired.state()
    again = desired.state()

    assert again[0] is wanted
    assert again[1] is rows
    assert (wanted, rows) == read_anew()


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a version", "status = 'RETIRED'"),
        ("a version", "instance_count = 2"),
        ("a version", "max_batch_size = 8"),
        ("a version", "response_cache = true"),
        ("a version", """report = '{"facts": {"peak_bytes": 5}}'"""),
        ("a model", "taken_down_at = now()"),
        ("a model", "releasing_version_id = (SELECT max(id::text)::uuid FROM catalog_modelversion)"),
        ("a model", "shadow_version_id = (SELECT max(id::text)::uuid FROM catalog_modelversion), shadow_percent = 5"),
        ("a subscription", "pinned_version_id = (SELECT max(id::text)::uuid FROM catalog_modelversion)"),
        ("a deployment", "status = 'READY'"),
        ("a deployment", "failures = 3"),
        ("a deployment", "changed_at = now() + interval '1 second'"),
        ("a deployment", "memory_bytes = 5"),
        ("a deployment", "processes = 2"),
        ("a deployment", "wanted_at = now()"),
        ("a deployment", "name = 'another'"),
        ("a deployment", "endpoint = '127.0.0.1:8002'"),
    ],
)
def test_what_has_changed_is(what: str, change: str) -> None:
    before = desired.state()
    with connection.cursor() as cursor:
        cursor.execute(CHANGES[what].format(change))
    after = desired.state()

    assert after != before
    assert after == read_anew()


def test_what_is_gone_is_known_no_more() -> None:
    Deployment.objects.all().delete()
    assert not desired.state()[1]


def test_a_use_is_known_without_reading_all_again() -> None:
    row, now = Deployment.objects.get(), timezone.now()
    rows = desired.state()[1]

    desired.used({row.pk: now})

    assert desired.state()[1] is rows
    assert rows == read_anew()[1]  # type: ignore[index]
