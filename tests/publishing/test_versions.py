"""A version's life: added, released, live, rolled back, retired."""

import threading

import pytest
from django.db import connection, transaction

from marketplace.access import TenantRole
from marketplace.catalog.models import Direction, ModelVersion, ModelVersionStatus, TensorSpec
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing.releases import promote_ready, release, retire, rollback
from marketplace.publishing.versions import Tensor, add_version
from tests import factories

SIGNATURE = (
    Tensor(Direction.INPUT, "text", "BYTES", [-1], content_type="text/plain", example=["hello"], example_shape=[1]),
    Tensor(Direction.OUTPUT, "scores", "FP32", [-1, 2], labels=["bad", "good"]),
)
ARTIFACT = {"sha256": "ab" * 32, "size_bytes": 10, "signature": SIGNATURE}


@pytest.fixture
def openlab(db):
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def owner(openlab):
    return factories.principal(openlab)


@pytest.fixture
def model(openlab):
    return factories.model(openlab, "sentiment")


def live(model):
    model.refresh_from_db()
    return model.live_version and model.live_version.number


def add(owner, model, *, released=False):
    version = add_version(owner, model=model, **ARTIFACT)
    if released:
        release(owner, version_id=version.pk)
        promote_ready([version.pk])
    return version


class TestAdding:
    def test_versions_are_numbered_from_one_and_ready(self, owner, model):
        versions = [add(owner, model) for _ in range(3)]
        assert [version.number for version in versions] == [1, 2, 3]
        assert {version.status for version in versions} == {ModelVersionStatus.READY}
        assert live(model) is None

    def test_the_signature_is_kept_in_order(self, owner, model):
        version = add(owner, model)
        inputs, outputs = (list(version.tensors.filter(direction=direction)) for direction in Direction)
        assert [(tensor.name, tensor.datatype, tensor.shape, tensor.example) for tensor in inputs] == [
            ("text", "BYTES", [-1], ["hello"])
        ]
        assert outputs[0].labels == ["bad", "good"]

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"sha256": "xyz"}, "input.sha256"),
            ({"sha256": ""}, "input.sha256"),
            ({"size_bytes": 0}, "input.sizeBytes"),
            ({"size_bytes": 2**63}, "input.sizeBytes"),
            ({"format": "pickle"}, "input.format"),
            ({"release_notes": "n" * 20_001}, "input.releaseNotes"),
            ({"release_notes": "\x00"}, "input.releaseNotes"),
            ({"signature": ()}, "input"),
            ({"signature": SIGNATURE[:1]}, "input"),
            ({"signature": SIGNATURE[1:]}, "input"),
            ({"signature": (*SIGNATURE, SIGNATURE[0])}, "input.signature.2.name"),
            ({"signature": (Tensor(Direction.INPUT, "", "FP32", [1]),)}, "input.signature.0.name"),
            ({"signature": (Tensor(Direction.INPUT, "x", "FP33", [1]),)}, "input.signature.0.datatype"),
            ({"signature": (Tensor(Direction.INPUT, "x", "FP32", [-2]),)}, "input.signature.0.shape"),
            ({"signature": (Tensor(Direction.INPUT, "x", "FP32", [0]),)}, "input.signature.0.shape"),
        ],
    )
    def test_each_wrong_field_is_named_and_nothing_is_written(self, owner, model, change, path):
        with pytest.raises(ValidationProblem) as problem:
            add_version(owner, model=model, **ARTIFACT | change)
        assert problem.value.path == path
        assert not ModelVersion.objects.exists()
        assert not TensorSpec.objects.exists()

    def test_another_publisher_does_not_find_the_model(self, model):
        with pytest.raises(NotFound):
            add(factories.principal(factories.tenant(is_publisher=True)), model)

    def test_billing_does_not_add_versions(self, openlab, model):
        with pytest.raises(PermissionDenied):
            add(factories.principal(openlab, TenantRole.BILLING), model)


class TestReleasing:
    def test_a_release_waits_until_the_version_is_warm(self, owner, model):
        version = add(owner, model)
        assert release(owner, version_id=version.pk).status == ModelVersionStatus.READY
        assert live(model) is None
        promote_ready([version.pk])
        version.refresh_from_db()
        assert (live(model), version.status) == (1, ModelVersionStatus.LIVE)
        assert version.released_at is not None

    def test_a_warm_version_that_nobody_released_stays_ready(self, owner, model):
        version = add(owner, model)
        promote_ready([version.pk])
        version.refresh_from_db()
        assert (live(model), version.status) == (None, ModelVersionStatus.READY)

    def test_the_version_before_stays_ready(self, owner, model):
        first, second = add(owner, model, released=True), add(owner, model, released=True)
        first.refresh_from_db()
        second.refresh_from_db()
        assert (first.status, second.status) == (ModelVersionStatus.READY, ModelVersionStatus.LIVE)
        assert second.live_before == first

    def test_the_last_release_wins(self, owner, model):
        first, second = add(owner, model), add(owner, model)
        release(owner, version_id=first.pk)
        release(owner, version_id=second.pk)
        promote_ready([first.pk, second.pk])
        assert live(model) == 2

    def test_releasing_the_live_version_calls_off_the_release_under_way(self, owner, model):
        first, second = add(owner, model, released=True), add(owner, model)
        release(owner, version_id=second.pk)
        assert release(owner, version_id=first.pk).status == ModelVersionStatus.LIVE
        promote_ready([second.pk])
        assert live(model) == 1

    @pytest.mark.parametrize("status", ["DRAFT", "VALIDATING", "REJECTED", "RETIRED"])
    def test_only_a_ready_version_is_released(self, owner, model, status):
        version = factories.version(model, status=status)
        with pytest.raises(ValidationProblem, match="Only a version that is ready") as problem:
            release(owner, version_id=version.pk)
        assert problem.value.path == "input.modelVersion"

    def test_first_released_is_the_first_time(self, owner, model):
        first = add(owner, model, released=True)
        first.refresh_from_db()
        moment = first.released_at
        add(owner, model, released=True)
        release(owner, version_id=first.pk)
        promote_ready([first.pk])
        first.refresh_from_db()
        assert first.released_at == moment


class TestRollingBack:
    def test_goes_back_to_the_version_live_before_at_once(self, owner, model):
        add(owner, model, released=True)
        second = add(owner, model, released=True)
        rollback(owner, model_ref="openlab/sentiment")
        second.refresh_from_db()
        assert (live(model), second.status) == (1, ModelVersionStatus.READY)

    def test_goes_back_step_by_step(self, owner, model):
        for _ in range(3):
            add(owner, model, released=True)
        rollback(owner, model_ref="openlab/sentiment")
        rollback(owner, model_ref="openlab/sentiment")
        assert live(model) == 1

    def test_calls_off_a_release_that_is_under_way(self, owner, model):
        add(owner, model, released=True)
        second = add(owner, model)
        release(owner, version_id=second.pk)
        rollback(owner, model_ref="openlab/sentiment")
        promote_ready([second.pk])
        assert live(model) == 1

    def test_says_when_there_is_nothing_to_go_back_to(self, owner, model):
        for _ in range(2):
            with pytest.raises(ValidationProblem, match="nothing to go back to"):
                rollback(owner, model_ref="openlab/sentiment")
            add(owner, model, released=not model.live_version_id)

    def test_says_when_the_one_before_is_retired(self, owner, model):
        first, _second = add(owner, model, released=True), add(owner, model, released=True)
        retire(owner, version_id=first.pk)
        with pytest.raises(ValidationProblem, match="Version 1 was live before and is retired"):
            rollback(owner, model_ref="openlab/sentiment")
        assert live(model) == 2


class TestRetiring:
    def test_a_retired_version_cannot_be_called(self, owner, model):
        version = add(owner, model)
        retire(owner, version_id=version.pk)
        assert not ModelVersion.objects.callable_by(owner).exists()

    def test_calls_off_its_release(self, owner, model):
        version = add(owner, model)
        release(owner, version_id=version.pk)
        retire(owner, version_id=version.pk)
        promote_ready([version.pk])
        version.refresh_from_db()
        assert (live(model), version.status) == (None, ModelVersionStatus.RETIRED)

    def test_twice_changes_nothing(self, owner, model):
        version = add(owner, model)
        retire(owner, version_id=version.pk)
        assert retire(owner, version_id=version.pk).status == ModelVersionStatus.RETIRED

    @pytest.mark.parametrize(("status", "message"), [("LIVE", "is live"), ("VALIDATING", "is being checked")])
    def test_not_while_it_is_needed(self, owner, model, status, message):
        version = factories.version(model, status=status)
        with pytest.raises(ValidationProblem, match=message):
            retire(owner, version_id=version.pk)


@pytest.mark.parametrize("act", [release, retire])
def test_another_publishers_version_is_missing(model, act):
    version = factories.version(model, status="READY")
    with pytest.raises(NotFound):
        act(factories.principal(factories.tenant(is_publisher=True)), version_id=version.pk)


@pytest.mark.parametrize("act", [release, retire])
def test_billing_may_not(openlab, model, act):
    version = factories.version(model, status="READY")
    with pytest.raises(PermissionDenied):
        act(factories.principal(openlab, TenantRole.BILLING), version_id=version.pk)


def in_threads(*calls):
    """Runs the calls at once, each on a connection of its own; returns what they return."""
    start, answers = threading.Barrier(len(calls)), []

    def run(call):
        try:
            connection.ensure_connection()
            start.wait()
            answers.append(call())
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.django_db(transaction=True)
def test_numbers_drawn_at_once_have_neither_gaps_nor_twins():
    openlab = factories.tenant("openlab", is_publisher=True)
    owner, model = factories.principal(openlab), factories.model(openlab, "sentiment")
    versions = in_threads(*[lambda: add_version(owner, model=model, **ARTIFACT)] * 8)
    assert sorted(version.number for version in versions) == list(range(1, 9))


@pytest.mark.django_db(transaction=True)
def test_a_number_given_back_is_drawn_again():
    openlab = factories.tenant("openlab", is_publisher=True)
    owner, model = factories.principal(openlab), factories.model(openlab, "sentiment")
    with pytest.raises(RuntimeError), transaction.atomic():
        add_version(owner, model=model, **ARTIFACT)
        raise RuntimeError
    assert add_version(owner, model=model, **ARTIFACT).number == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_promotions_at_once_one_version_is_live():
    openlab = factories.tenant("openlab", is_publisher=True)
    owner, model = factories.principal(openlab), factories.model(openlab, "sentiment")
    version = add_version(owner, model=model, **ARTIFACT)
    release(owner, version_id=version.pk)
    in_threads(*[lambda: promote_ready([version.pk])] * 4)
    assert list(model.versions.filter(status="LIVE")) == [version]
