"""Which version answers a tenant that names none: its pin, the canary for a share of the tenants, the live one."""

from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from django.db import connection

from marketplace.catalog.models import MLModel, ModelVersion
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def model() -> MLModel:
    """Version 1 is live, 2 and 3 are ready."""
    model = factories.model(factories.tenant("openlab", is_publisher=True), "digits")
    factories.version(model)
    for _ in range(2):
        factories.version(model, status="READY")
    return model


def answering(
    model: MLModel, tenant: UUID | None, *, pinned: ModelVersion | None = None, canary: int | None = 2, percent: int = 0
) -> int:
    """Its number."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT metering_answering_version(%s, %s, %s, %s, %s, %s)",
            [
                tenant,
                pinned and pinned.pk,
                model.publisher_id,
                model.live_version_id,
                canary and model.versions.get(number=canary).pk,
                percent,
            ],
        )
        (version,) = cursor.fetchone()
    return ModelVersion.objects.get(pk=version).number


def share(model: MLModel, tenants: list[UUID], percent: int, canary: int = 2) -> set[UUID]:
    """Of the tenants: whom the canary answers."""
    return {tenant for tenant in tenants if answering(model, tenant, canary=canary, percent=percent) == canary}


TENANTS = [uuid4() for _ in range(100)]


def test_without_a_canary_the_live_version_answers(model: MLModel) -> None:
    assert {answering(model, tenant, canary=None) for tenant in TENANTS} == {1}


def test_a_larger_share_has_whom_a_smaller_one_had(model: MLModel) -> None:
    shares = [share(model, TENANTS, percent) for percent in (0, 5, 20, 50, 95, 100)]

    assert all(smaller <= larger for smaller, larger in pairwise(shares))
    assert shares[0] == set()
    assert shares[-1] == set(TENANTS)


def test_a_share_is_about_as_large_as_it_says(model: MLModel) -> None:
    """Of two thousand: five standard deviations either way."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM generate_series(1, 2000) AS n "
            "WHERE metering_answering_version(md5(n::text)::uuid, NULL, NULL, NULL, %s, 20) IS NOT NULL",
            [model.versions.get(number=2).pk],
        )
        assert abs(cursor.fetchone()[0] - 400) < 90


def test_the_next_canary_has_other_tenants_first(model: MLModel) -> None:
    assert share(model, TENANTS, 50) != share(model, TENANTS, 50, canary=3)


def test_the_publisher_and_nobody_in_particular_stay_with_the_live_version(model: MLModel) -> None:
    pinned = model.versions.get(number=3)

    assert answering(model, model.publisher_id, pinned=pinned, percent=100) == 1
    assert answering(model, None, percent=100) == 1


@pytest.mark.parametrize("status", ["READY", "LIVE"])
def test_a_pin_goes_before_a_canary(model: MLModel, status: str) -> None:
    pinned = model.versions.get(number=1 if status == "LIVE" else 3)

    assert answering(model, TENANTS[0], pinned=pinned, percent=100) == pinned.number


@pytest.mark.parametrize(("percent", "number"), [(0, 1), (100, 2)])
def test_a_retired_pin_counts_for_nothing(model: MLModel, percent: int, number: int) -> None:
    pinned = factories.version(model, status="RETIRED")

    assert answering(model, TENANTS[0], pinned=pinned, percent=percent) == number


def test_a_canary_that_cannot_be_called_counts_for_nothing(model: MLModel) -> None:
    model.versions.filter(number=2).update(status="RETIRED")

    assert answering(model, TENANTS[0], percent=100) == 1
