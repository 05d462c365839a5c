"""Canaries, shadows, sunsets, and the history of it all; what is released and rolled back is in test_versions.py."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus, ReleaseEvent
from marketplace.errors import MarketplaceError, NotFound, PermissionDenied, ValidationProblem
from marketplace.publishing import releases
from marketplace.subscriptions import pins
from marketplace.subscriptions.models import ModelSubscription
from marketplace.tenants.models import Tenant
from tests import factories

REF = "openlab/digits"


@pytest.fixture
def openlab(db: None) -> Tenant:
    return factories.tenant("openlab", is_publisher=True)


@pytest.fixture
def owner(openlab: Tenant) -> Principal:
    return factories.principal(openlab, user_id=factories.member(openlab).pk)


@pytest.fixture
def model(openlab: Tenant) -> MLModel:
    return with_versions(openlab)


def with_versions(publisher: Tenant) -> MLModel:
    """Version 1 is live; 2 and 3 are ready, and nobody but the publisher can see them yet."""
    model = factories.model(publisher, "digits")
    factories.version(model)
    for _ in range(2):
        factories.version(model, status="READY", released_at=None)
    return model


def numbered(model: MLModel, number: int) -> ModelVersion:
    return model.versions.get(number=number)


def canary(owner: Principal, model: MLModel, number: int, percent: int = 20, *, warm: bool = True) -> ModelVersion:
    version = numbered(model, number)
    releases.set_canary(owner, model_ref=REF, version_id=version.pk, percent=percent)
    if warm:
        releases.promote_ready([version.pk])
    return version


def release(owner: Principal, model: MLModel, number: int) -> ModelVersion:
    version = numbered(model, number)
    releases.release(owner, version_id=version.pk)
    releases.promote_ready([version.pk])
    return version


def standing(model: MLModel) -> dict[str, Any]:
    """Numbers of the versions that have a part to play, and their shares."""
    row = MLModel.objects.get(pk=model.pk)
    parts = {
        "live": row.live_version,
        "canary": row.canary_version,
        "shadow": row.shadow_version,
        "releasing": row.releasing_version,
    }
    shares = {"canary": row.canary_percent, "shadow": row.shadow_percent, "releasing": row.releasing_percent}
    return {
        part: (version.number, shares[part]) if part in shares and shares[part] is not None else version.number
        for part, version in parts.items()
        if version is not None
    }


def history(model: MLModel) -> list[tuple[str, int, int | None]]:
    rows = ReleaseEvent.objects.filter(model=model).order_by("at", "id")
    return [(event.kind, event.version.number if event.version else 0, event.percent) for event in rows]


class TestCanary:
    def test_it_has_its_share_once_it_is_loaded_everywhere(self, owner: Principal, model: MLModel) -> None:
        version = canary(owner, model, 2, warm=False)
        assert standing(model) == {"live": 1, "releasing": (2, 20)}

        releases.promote_ready([version.pk])
        assert standing(model) == {"live": 1, "canary": (2, 20)}
        assert numbered(model, 2).status == ModelVersionStatus.READY

    def test_who_is_in_the_share_may_call_it(self, owner: Principal, model: MLModel) -> None:
        stranger = factories.principal(factories.tenant())
        version = canary(owner, model, 2, warm=False)
        assert not ModelVersion.objects.callable_by(stranger).filter(pk=version.pk).exists()

        releases.promote_ready([version.pk])
        assert ModelVersion.objects.callable_by(stranger).filter(pk=version.pk).exists()

    def test_its_share_changes_at_once(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        canary(owner, model, 2, 60, warm=False)
        assert standing(model) == {"live": 1, "canary": (2, 60)}

    def test_the_one_before_goes_on_until_the_next_one_is_loaded(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        third = canary(owner, model, 3, warm=False)
        assert standing(model) == {"live": 1, "canary": (2, 20), "releasing": (3, 20)}
        releases.promote_ready([third.pk])
        assert standing(model) == {"live": 1, "canary": (3, 20)}

    @pytest.mark.parametrize("way", ["no version", "no share"])
    def test_it_ends(self, owner: Principal, model: MLModel, way: str) -> None:
        version = canary(owner, model, 2)
        releases.set_canary(
            owner,
            model_ref=REF,
            version_id=None if way == "no version" else version.pk,
            percent=20 if way == "no version" else 0,
        )
        assert standing(model) == {"live": 1}

    def test_ending_it_calls_off_one_that_waits(self, owner: Principal, model: MLModel) -> None:
        version = canary(owner, model, 2, warm=False)
        releases.set_canary(owner, model_ref=REF, version_id=None, percent=0)
        releases.promote_ready([version.pk])
        assert standing(model) == {"live": 1}

    def test_one_that_waits_while_its_model_is_taken_down_waits_on(self, owner: Principal, model: MLModel) -> None:
        version = canary(owner, model, 2, warm=False)
        MLModel.objects.update(taken_down_at=timezone.now(), takedown_reason="It copies another one.")
        releases.promote_ready([version.pk])
        assert standing(model) == {"live": 1, "releasing": (2, 20)}

        MLModel.objects.update(taken_down_at=None, takedown_reason="")
        releases.promote_ready([version.pk])
        assert standing(model) == {"live": 1, "canary": (2, 20)}

    def test_ending_it_leaves_a_release_under_way(self, owner: Principal, model: MLModel) -> None:
        releases.release(owner, version_id=numbered(model, 2).pk)
        releases.set_canary(owner, model_ref=REF, version_id=None, percent=0)
        assert standing(model) == {"live": 1, "releasing": 2}

    def test_the_last_of_releases_and_canaries_that_wait_wins(self, owner: Principal, model: MLModel) -> None:
        second, third = canary(owner, model, 2, warm=False), numbered(model, 3)
        releases.release(owner, version_id=third.pk)
        releases.promote_ready([second.pk, third.pk])
        assert standing(model) == {"live": 3}

    def test_it_is_promoted_at_once(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        releases.promote_canary(owner, model_ref=REF)
        assert standing(model) == {"live": 2}
        assert numbered(model, 2).live_before == numbered(model, 1)

    def test_one_that_waits_is_not_promoted(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2, warm=False)
        with pytest.raises(ValidationProblem, match="no canary") as problem:
            releases.promote_canary(owner, model_ref=REF)
        assert problem.value.path == "input.model"

    def test_promoting_it_calls_off_a_release_under_way(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        third = numbered(model, 3)
        releases.release(owner, version_id=third.pk)
        releases.promote_canary(owner, model_ref=REF)
        releases.promote_ready([third.pk])
        assert standing(model) == {"live": 2}

    def test_whatever_goes_live_ends_it(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        release(owner, model, 3)
        assert standing(model) == {"live": 3}


class TestShadow:
    def test_it_stands_beside_the_live_version(self, owner: Principal, model: MLModel) -> None:
        releases.set_shadow(owner, model_ref=REF, version_id=numbered(model, 2).pk, percent=10)
        assert standing(model) == {"live": 1, "shadow": (2, 10)}
        assert numbered(model, 2).released_at is None

    def test_it_ends(self, owner: Principal, model: MLModel) -> None:
        releases.set_shadow(owner, model_ref=REF, version_id=numbered(model, 2).pk, percent=10)
        releases.set_shadow(owner, model_ref=REF, version_id=None, percent=0)
        assert standing(model) == {"live": 1}

    def test_it_ends_when_it_goes_live_and_not_when_another_does(self, owner: Principal, model: MLModel) -> None:
        releases.set_shadow(owner, model_ref=REF, version_id=numbered(model, 3).pk, percent=10)
        release(owner, model, 2)
        assert standing(model) == {"live": 2, "shadow": (3, 10)}
        release(owner, model, 3)
        assert standing(model) == {"live": 3}

    def test_it_ends_when_it_is_retired(self, owner: Principal, model: MLModel) -> None:
        version = numbered(model, 2)
        releases.set_shadow(owner, model_ref=REF, version_id=version.pk, percent=10)
        releases.retire(owner, version_id=version.pk)
        assert standing(model) == {"live": 1}


@pytest.mark.parametrize("act", [releases.set_canary, releases.set_shadow])
class TestBesideTheLiveVersion:
    @pytest.mark.parametrize("percent", [-1, 101, 2**31])
    def test_a_share_is_a_percentage(
        self, owner: Principal, model: MLModel, act: Callable[..., MLModel], percent: int
    ) -> None:
        with pytest.raises(ValidationProblem) as problem:
            act(owner, model_ref=REF, version_id=numbered(model, 2).pk, percent=percent)
        assert problem.value.path == "input.percent"

    @pytest.mark.parametrize("status", ["DRAFT", "VALIDATING", "REJECTED", "RETIRED"])
    def test_only_a_ready_version(
        self, owner: Principal, model: MLModel, act: Callable[..., MLModel], status: str
    ) -> None:
        version = factories.version(model, status=status)
        with pytest.raises(ValidationProblem, match="Only a version that is ready") as problem:
            act(owner, model_ref=REF, version_id=version.pk, percent=10)
        assert problem.value.path == "input.modelVersion"

    def test_not_the_live_version(self, owner: Principal, model: MLModel, act: Callable[..., MLModel]) -> None:
        with pytest.raises(ValidationProblem, match="is live"):
            act(owner, model_ref=REF, version_id=numbered(model, 1).pk, percent=10)

    def test_not_without_a_live_version(self, owner: Principal, openlab: Tenant, act: Callable[..., MLModel]) -> None:
        version = factories.version(factories.model(openlab, "new"), status="READY")
        with pytest.raises(ValidationProblem, match="no live version"):
            act(owner, model_ref="openlab/new", version_id=version.pk, percent=10)

    def test_not_another_models_version(
        self, owner: Principal, openlab: Tenant, model: MLModel, act: Callable[..., MLModel]
    ) -> None:
        other = factories.version(factories.model(openlab, "other"), status="READY")
        with pytest.raises(NotFound) as problem:
            act(owner, model_ref=REF, version_id=other.pk, percent=10)
        assert problem.value.path == "input.modelVersion"


class TestRollingBack:
    def test_a_canary_is_called_off_first(self, owner: Principal, model: MLModel) -> None:
        release(owner, model, 2)
        canary(owner, model, 3)
        releases.rollback(owner, model_ref=REF)
        assert standing(model) == {"live": 2}
        releases.rollback(owner, model_ref=REF)
        assert standing(model) == {"live": 1}

    def test_whatever_is_under_way_is_called_off_together(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        releases.release(owner, version_id=numbered(model, 3).pk)
        releases.rollback(owner, model_ref=REF)
        releases.promote_ready([numbered(model, 3).pk])
        assert standing(model) == {"live": 1}

    def test_a_promoted_canary_is_rolled_back_like_a_release(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2)
        releases.promote_canary(owner, model_ref=REF)
        releases.rollback(owner, model_ref=REF)
        assert standing(model) == {"live": 1}


class TestSunset:
    def test_a_version_is_deprecated_with_or_without_a_date(self, owner: Principal, model: MLModel) -> None:
        before, sunset = timezone.now(), timezone.now() + timedelta(days=90)
        undated = releases.deprecate(owner, version_id=numbered(model, 2).pk, sunset_at=None)
        dated = releases.deprecate(owner, version_id=numbered(model, 1).pk, sunset_at=sunset)
        assert undated.deprecated_at is not None
        assert undated.deprecated_at >= before
        assert (undated.sunset_at, dated.sunset_at) == (None, sunset)

    def test_a_date_moves_to_later_and_not_to_sooner(self, owner: Principal, model: MLModel) -> None:
        version, sunset = numbered(model, 1), timezone.now() + timedelta(days=90)
        first = releases.deprecate(owner, version_id=version.pk, sunset_at=sunset)
        later = releases.deprecate(owner, version_id=version.pk, sunset_at=sunset + timedelta(days=1))
        assert later.deprecated_at == first.deprecated_at
        for sooner in (sunset, None):
            with pytest.raises(ValidationProblem, match="have been told") as problem:
                releases.deprecate(owner, version_id=version.pk, sunset_at=sooner)
            assert problem.value.path == "input.sunsetAt"

    def test_a_date_that_has_passed_is_none(self, owner: Principal, model: MLModel) -> None:
        with pytest.raises(ValidationProblem) as problem:
            releases.deprecate(owner, version_id=numbered(model, 1).pk, sunset_at=timezone.now() - timedelta(seconds=1))
        assert problem.value.path == "input.sunsetAt"

    @pytest.mark.parametrize("status", ["DRAFT", "VALIDATING", "REJECTED", "RETIRED"])
    def test_not_of_what_nobody_can_call(self, owner: Principal, model: MLModel, status: str) -> None:
        version = factories.version(model, status=status)
        with pytest.raises(ValidationProblem):
            releases.deprecate(owner, version_id=version.pk, sunset_at=None)


class TestRetiring:
    def test_not_the_canary(self, owner: Principal, model: MLModel) -> None:
        version = canary(owner, model, 2)
        with pytest.raises(ValidationProblem, match="is the canary"):
            releases.retire(owner, version_id=version.pk)

    @pytest.mark.parametrize(
        ("status", "sunset", "refused"),
        [
            ("ACTIVE", None, True),
            ("SUSPENDED", None, True),
            ("CANCELLED", None, False),
            ("ACTIVE", timedelta(days=1), True),
            ("ACTIVE", timedelta(seconds=-1), False),
        ],
    )
    def test_not_what_a_subscriber_has_pinned_before_its_sunset(
        self, owner: Principal, model: MLModel, status: str, sunset: timedelta | None, refused: bool
    ) -> None:
        version = numbered(model, 2)
        version.sunset_at = timezone.now() + sunset if sunset else None
        version.save()
        factories.subscription(factories.tenant(), factories.plan(model), pinned_version=version, status=status)
        if refused:
            with pytest.raises(ValidationProblem, match="A subscriber has pinned this version"):
                releases.retire(owner, version_id=version.pk)
        else:
            assert releases.retire(owner, version_id=version.pk).status == ModelVersionStatus.RETIRED


class TestHistory:
    def test_it_says_what_happened_and_who_asked_for_it(self, owner: Principal, model: MLModel) -> None:
        canary(owner, model, 2, 10)
        canary(owner, model, 2, 50)
        releases.promote_canary(owner, model_ref=REF)
        release(owner, model, 3)
        releases.rollback(owner, model_ref=REF)
        releases.release(owner, version_id=numbered(model, 3).pk)
        releases.rollback(owner, model_ref=REF)
        releases.set_shadow(owner, model_ref=REF, version_id=numbered(model, 3).pk, percent=5)
        releases.deprecate(owner, version_id=numbered(model, 3).pk, sunset_at=None)
        releases.retire(owner, version_id=numbered(model, 3).pk)

        assert history(model) == [
            ("REQUESTED", 2, 10),
            ("CANARY", 2, 10),
            ("CANARY", 2, 50),
            ("CANARY", 2, 0),
            ("PROMOTED", 2, None),
            ("REQUESTED", 3, None),
            ("RELEASED", 3, None),
            ("ROLLED_BACK", 2, None),
            ("REQUESTED", 3, None),
            ("CALLED_OFF", 3, None),
            ("SHADOW", 3, 5),
            ("DEPRECATED", 3, None),
            ("SHADOW", 3, 0),
            ("RETIRED", 3, None),
        ]
        assert set(ReleaseEvent.objects.values_list("user", flat=True)) == {owner.user_id}

    def test_asking_twice_is_one_event(self, owner: Principal, model: MLModel) -> None:
        for _ in range(2):
            canary(owner, model, 2)
            releases.set_shadow(owner, model_ref=REF, version_id=numbered(model, 3).pk, percent=5)
            releases.deprecate(owner, version_id=numbered(model, 3).pk, sunset_at=None)
        assert history(model) == [("REQUESTED", 2, 20), ("CANARY", 2, 20), ("SHADOW", 3, 5), ("DEPRECATED", 3, None)]

    def test_it_knows_the_version_that_was_live_at_any_moment(self, owner: Principal, model: MLModel) -> None:
        moments = [timezone.now()]
        for act in (
            lambda: release(owner, model, 2),
            lambda: releases.rollback(owner, model_ref=REF),
            lambda: canary(owner, model, 3),
            lambda: releases.promote_canary(owner, model_ref=REF),
        ):
            act()
            moments.append(timezone.now())

        live = [ModelVersion.objects.live_at(model, moment).first() for moment in moments]
        # Version 1 was put there without any release.
        assert [version and version.number for version in live] == [None, 2, 1, 1, 3]

    def test_a_key_that_asks_is_named_by_itself(self, openlab: Tenant, model: MLModel) -> None:
        key = factories.api_key_row(openlab)
        by_key = Principal(
            tenant_id=openlab.pk,
            group_id=openlab.group_id,
            api_key_id=key.pk,
            role=TenantRole.DEVELOPER,
            is_publisher=True,
        )
        release(by_key, model, 2)
        assert set(ReleaseEvent.objects.values_list("api_key", "user")) == {(key.pk, None)}


ACTS: dict[str, Callable[[Principal, MLModel], object]] = {
    "set_canary": lambda who, model: canary(who, model, 2),
    "end_canary": lambda who, model: releases.set_canary(who, model_ref=REF, version_id=None, percent=0),
    "promote_canary": lambda who, model: releases.promote_canary(who, model_ref=REF),
    "set_shadow": lambda who, model: releases.set_shadow(
        who, model_ref=REF, version_id=numbered(model, 2).pk, percent=5
    ),
    "rollback": lambda who, model: releases.rollback(who, model_ref=REF),
    "deprecate": lambda who, model: releases.deprecate(who, version_id=numbered(model, 2).pk, sunset_at=None),
    "retire": lambda who, model: releases.retire(who, version_id=numbered(model, 2).pk),
}


@pytest.mark.parametrize("act", [*ACTS])
def test_nobody_but_its_publisher(openlab: Tenant, model: MLModel, act: str) -> None:
    before = standing(model)
    with pytest.raises(NotFound):
        ACTS[act](factories.principal(factories.tenant(is_publisher=True)), model)
    with pytest.raises(NotFound):
        ACTS[act](factories.principal(factories.tenant()), model)
    with pytest.raises(PermissionDenied):
        ACTS[act](factories.principal(openlab, TenantRole.BILLING), model)
    assert standing(model) == before
    assert not ReleaseEvent.objects.exists()


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def behind_a_lock(model: MLModel, *acts: Callable[[], object]) -> list[str]:
    """Runs the acts at once, each on a connection of its own: all of them wait for the model when the first may go on.

    Answers with the names of what they raised, "" for nothing, in the order of the acts.
    """
    outcomes = [""] * len(acts)

    def run(place: int, act: Callable[[], object]) -> None:
        try:
            act()
        except MarketplaceError as error:
            outcomes[place] = type(error).__name__
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=arguments) for arguments in enumerate(acts)]
    with transaction.atomic():
        MLModel.objects.select_for_update().get(pk=model.pk)
        for thread in threads:
            thread.start()
        waiting = 0
        while waiting < len(acts):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_stat_clear_snapshot()")
                cursor.execute(WAITING)
                (waiting,) = cursor.fetchone()
            assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def owner(self) -> Principal:
        return factories.principal(factories.tenant("openlab", is_publisher=True))

    @pytest.fixture
    def model(self, owner: Principal) -> MLModel:
        return with_versions(Tenant.objects.get(pk=owner.tenant_id))

    def test_of_two_releases_the_last_one_is_under_way(self, owner: Principal, model: MLModel) -> None:
        second, third = numbered(model, 2), numbered(model, 3)
        outcomes = behind_a_lock(
            model,
            lambda: releases.release(owner, version_id=second.pk),
            lambda: releases.release(owner, version_id=third.pk),
        )
        assert outcomes == ["", ""]
        (asked, called_off, asked_last) = history(model)
        assert [kind for kind, _number, _percent in history(model)] == ["REQUESTED", "CALLED_OFF", "REQUESTED"]
        assert asked[1] == called_off[1] != asked_last[1]
        assert standing(model) == {"live": 1, "releasing": asked_last[1]}

    def test_promoting_against_rolling_back(self, owner: Principal, model: MLModel) -> None:
        """Either the canary is called off, or it was live and is rolled back: version 1 answers in the end."""
        canary(owner, model, 2)
        outcomes = behind_a_lock(
            model,
            lambda: releases.promote_canary(owner, model_ref=REF),
            lambda: releases.rollback(owner, model_ref=REF),
        )
        assert outcomes in (["", ""], ["ValidationProblem", ""])
        assert standing(model) == {"live": 1}
        assert numbered(model, 2).status == ModelVersionStatus.READY

    def test_a_canary_that_begins_against_retiring_it(self, owner: Principal, model: MLModel) -> None:
        """Either it is called off, or it answers calls and cannot be retired."""
        version = canary(owner, model, 2, warm=False)
        outcomes = behind_a_lock(
            model,
            lambda: releases.promote_ready([version.pk]),
            lambda: releases.retire(owner, version_id=version.pk),
        )
        if numbered(model, 2).status == ModelVersionStatus.RETIRED:
            assert (outcomes, standing(model)) == (["", ""], {"live": 1})
        else:
            assert (outcomes, standing(model)) == (["", "ValidationProblem"], {"live": 1, "canary": (2, 20)})

    def test_a_pin_against_retiring_it(self, owner: Principal, model: MLModel) -> None:
        version = release(owner, model, 2)
        release(owner, model, 3)
        subscription = factories.subscription(factories.tenant(), factories.plan(model))
        subscriber = factories.principal(subscription.tenant)
        outcomes = behind_a_lock(
            model,
            lambda: pins.pin(subscriber, subscription_id=subscription.pk, version_id=version.pk),
            lambda: releases.retire(owner, version_id=version.pk),
        )
        pinned = ModelSubscription.objects.get().pinned_version
        if pinned:
            assert outcomes == ["", "ValidationProblem"]
        else:
            assert outcomes == ["NotFound", ""]
