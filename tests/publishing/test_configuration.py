"""How a version runs: what may be asked for, by whom."""

from typing import Any

import pytest

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import Direction, ModelVersion
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing.configuration import configure
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> ModelVersion:
    """Of which requests could be merged."""
    version = factories.version(factories.model(factories.tenant("openlab", is_publisher=True)))
    version.tensors.update(shape=[-1, 4])
    return version


@pytest.fixture
def owner(version: ModelVersion) -> Principal:
    return factories.principal(version.model.publisher)


def refusal(owner: Principal, version: ModelVersion, **asked: Any) -> tuple[str | None, str]:
    with pytest.raises(ValidationProblem) as refused:
        configure(owner, version_id=version.pk, **asked)
    version.refresh_from_db()
    assert (version.instance_count, version.max_batch_size, version.response_cache) == (1, 0, False)
    return refused.value.path, refused.value.message


def test_what_is_left_out_stays_as_it_is(owner: Principal, version: ModelVersion) -> None:
    configure(owner, version_id=version.pk, instance_count=2, max_batch_size=8)
    configure(owner, version_id=version.pk, response_cache=True)

    version.refresh_from_db()

    assert (version.instance_count, version.max_batch_size, version.response_cache) == (2, 8, True)


def test_other_settings_have_another_name_at_triton_and_the_usual_ones_none(
    owner: Principal, version: ModelVersion
) -> None:
    usual = version.triton_name
    assert usual == f"{version.model_id}-v1"

    changed = configure(owner, version_id=version.pk, instance_count=2, max_batch_size=8, response_cache=True)

    assert changed.triton_name == f"{usual}-i2-b8-c1"
    assert configure(owner, version_id=version.pk, instance_count=1, max_batch_size=0, response_cache=False)
    version.refresh_from_db()
    assert version.triton_name == usual


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"instance_count": 0}, "input.instanceCount"),
        ({"instance_count": 9}, "input.instanceCount"),
        ({"max_batch_size": -1}, "input.maxBatchSize"),
        ({"max_batch_size": 257}, "input.maxBatchSize"),
        ({"instance_count": 2**40}, "input.instanceCount"),
    ],
    ids=str,
)
def test_settings_have_bounds(owner: Principal, version: ModelVersion, asked: dict[str, Any], path: str) -> None:
    assert refusal(owner, version, **asked)[0] == path


@pytest.mark.parametrize("shape", [[-1], [3, 4], [1, -1]], ids=str)
def test_requests_are_merged_along_a_dynamic_first_dimension_or_not_at_all(
    owner: Principal, version: ModelVersion, shape: list[int]
) -> None:
    version.tensors.filter(direction=Direction.OUTPUT).update(shape=shape)

    path, message = refusal(owner, version, max_batch_size=8)

    assert path == "input.maxBatchSize"
    assert "SUM" in message


@pytest.mark.parametrize(
    ("fields", "asked", "path"),
    [
        ({"decoupled": True}, {"max_batch_size": 8}, "input.maxBatchSize"),
        ({"format": "ensemble"}, {"max_batch_size": 8}, "input.maxBatchSize"),
        ({"decoupled": True}, {"response_cache": True}, "input.responseCache"),
        ({"status": "VALIDATING"}, {"instance_count": 2}, "input.modelVersion"),
        ({"status": "RETIRED"}, {"instance_count": 2}, "input.modelVersion"),
    ],
    ids=str,
)
def test_not_every_version_can_run_so(
    owner: Principal, fields: dict[str, Any], asked: dict[str, Any], path: str
) -> None:
    model = factories.model(factories.Tenant.objects.get(slug="openlab"))
    version = factories.version(model, **{"status": "READY"} | fields)
    version.tensors.update(shape=[-1, 4])

    assert refusal(owner, version, **asked)[0] == path


def test_it_is_the_publishers_to_say(version: ModelVersion) -> None:
    stranger = factories.principal(factories.tenant(is_publisher=True))
    with pytest.raises(NotFound):
        configure(stranger, version_id=version.pk, instance_count=2)
    viewer = factories.principal(version.model.publisher, TenantRole.VIEWER)
    with pytest.raises(PermissionDenied):
        configure(viewer, version_id=version.pk, instance_count=2)
