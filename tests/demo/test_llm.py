"""The language model that `make demo-llm` leaves for the demo, and what becomes of it."""

from pathlib import Path

import pytest
from pytest_django import Settings

from demo import llm, loading
from marketplace.catalog.models import MLModel
from marketplace.subscriptions.models import ModelSubscription
from tests.inference import generators

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _data_dir(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_DIR = tmp_path
    settings.OBJECTS_DIR = tmp_path / "objects"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr(loading, "MODELS", ())


def test_without_it_the_demo_is_whole() -> None:
    assert loading.load() == []


def test_it_is_put_up_once_it_is_there_and_only_once() -> None:
    loading.load()
    llm.archive().write_bytes(generators.archive())

    assert loading.load() == ["openlab/smollm2"]
    assert loading.load() == []

    model = MLModel.objects.get(name="smollm2")
    assert model.task == "TEXT_GENERATION"
    assert model.live_version is not None
    assert model.live_version.decoupled
    assert ModelSubscription.objects.filter(model=model).values_list("tenant__slug", "plan__name").get() == (
        "acme",
        "Scale",
    )


def test_its_plans_are_by_token_and_end_with_what_they_include() -> None:
    llm.archive().write_bytes(generators.archive())
    loading.load()
    plans = MLModel.objects.get(name="smollm2").plans.all()
    assert [(plan.name, plan.unit, plan.included_units, plan.overage_price) for plan in plans] == [
        ("Trial", "TOKEN", 5_000, None),
        ("Free", "TOKEN", 100_000, None),
        ("Scale", "TOKEN", 1_000_000_000, None),
    ]
    assert {plan.max_tokens_per_call for plan in plans} == {2_048}
