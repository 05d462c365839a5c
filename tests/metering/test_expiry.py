"""What the worker gives back and forgets."""

from datetime import timedelta

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from inference import tasks
from marketplace.metering import connections
from marketplace.metering.admission import Admission, admit
from marketplace.metering.models import Hold, Quota, StoredAnswer
from marketplace.tenants.models import Tenant
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_units_of_a_call_whose_process_died_come_back_once_its_hold_expires() -> None:
    version = factories.version(factories.model(factories.tenant(is_publisher=True)))
    consumer = factories.tenant()
    factories.subscription(consumer, factories.plan(version.model))

    async def admitted(seconds: float) -> Admission:
        try:
            return await admit(factories.principal(consumer), version_id=version.pk, most_seconds=10, lease=seconds)
        finally:
            await connections.close()

    dead, alive = async_to_sync(admitted)(-1), async_to_sync(admitted)(60)

    assert tasks.release_expired_holds() == 1
    assert Hold.objects.get(pk=dead.hold_id).released_because == "EXPIRED"
    assert Hold.objects.get(pk=alive.hold_id).state == "held"
    assert Quota.objects.get().held == 1


def test_what_somebody_works_on_is_not_waited_for_unless_nothing_else_has_expired() -> None:
    version = factories.version(factories.model(factories.tenant(is_publisher=True)))
    plan = factories.plan(version.model)
    consumers = [factories.tenant(), factories.tenant()]
    for consumer in consumers:
        factories.subscription(consumer, plan)

    async def admitted(consumer: Tenant) -> Admission:
        try:
            return await admit(factories.principal(consumer), version_id=version.pk, most_seconds=10, lease=-1)
        finally:
            await connections.close()

    busy, free = (async_to_sync(admitted)(consumer) for consumer in consumers)
    with psycopg.connect(**connections._parameters()) as other:
        quota = Hold.objects.get(pk=busy.hold_id).quota_id
        other.execute("SELECT FROM metering_quota WHERE id = %s FOR UPDATE", [quota])
        assert tasks.release_expired_holds() == 1
        assert Hold.objects.get(pk=free.hold_id).state == "released"
        assert Hold.objects.get(pk=busy.hold_id).state == "held"
        assert tasks.release_expired_holds() == 0

    assert tasks.release_expired_holds() == 1
    assert Hold.objects.get(pk=busy.hold_id).state == "released"


def test_answers_are_forgotten_once_they_expire() -> None:
    version = factories.version(factories.model(factories.tenant(is_publisher=True)))
    kept, expired = (factories.hold(factories.tenant(), version) for _ in range(2))
    for hold, age in ((kept, -1), (expired, 1)):
        StoredAnswer.objects.create(hold=hold, content=b"", expires_at=timezone.now() - timedelta(minutes=age))

    tasks.forget_expired_answers()

    assert [answer.hold_id for answer in StoredAnswer.objects.all()] == [kept.pk]
