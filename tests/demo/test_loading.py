"""The demo at a first start, at every later one, and after its file was lost."""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from pytest_django import Settings

from demo import loading
from inference.formats import read_signature
from marketplace.catalog.models import Direction, MLModel, ModelVersion
from marketplace.objects.folder import Folder
from marketplace.publishing import releases
from marketplace.subscriptions import actions as subscriptions
from marketplace.subscriptions.models import ModelSubscription
from marketplace.tenants import actions as tenants
from marketplace.tenants.authentication import principal_from_key, principal_from_user
from marketplace.tenants.models import ApiKey, Membership, User

pytestmark = pytest.mark.django_db

REFS = {"openlab/add", "openlab/digits", "openlab/minilm", "openlab/sentiment", "openlab/tumour"}


@pytest.fixture(autouse=True)
def data_dir(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.DATA_DIR = tmp_path
    settings.OBJECTS_DIR = tmp_path / "objects"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a second less for each test
    yield tmp_path
    shutil.rmtree(tmp_path / "objects", ignore_errors=True)  # 91 MB that pytest would keep


@pytest.fixture(autouse=True)
def _made_once(minilm_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.MADE_HERE, "minilm", lambda path: os.link(minilm_archive, path))


def demo(data_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((data_dir / "demo.json").read_text())
    return content


def every_row() -> dict[str, Any]:
    """What the database holds of this project's own tables."""
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list()))
        for label in ("tenants", "catalog", "subscriptions", "metering")
        for model in apps.get_app_config(label).get_models()
    }


def acme_owner() -> Any:
    return principal_from_user(User.objects.get(email="alice@acme.example").pk)


def test_a_first_start_publishes_five_models_each_with_a_live_version_and_a_card() -> None:
    assert set(loading.load()) == REFS
    for model in MLModel.objects.select_related("publisher", "live_version"):
        assert model.ref in REFS
        assert model.live_version is not None
        assert model.live_version.number == 1
        assert model.card.startswith("# ")


def test_both_versions_of_digits_may_be_called_by_subscribers_and_the_first_is_live(data_dir: Path) -> None:
    loading.load()
    principal = principal_from_key(demo(data_dir)["apiKeys"]["acme"])
    digits = ModelVersion.objects.callable_by(principal).filter(model__name="digits").order_by("number")
    assert [(version.number, version.status) for version in digits] == [(1, "LIVE"), (2, "READY")]


def test_stored_artefacts_have_the_published_signatures(data_dir: Path) -> None:
    loading.load()
    for version in ModelVersion.objects.prefetch_related("tensors"):
        signature = read_signature(Folder(data_dir / "objects").get(version.sha256), version.format)
        published = {
            direction: [
                (tensor.name, tensor.datatype, tuple(tensor.shape))
                for tensor in version.tensors.all()
                if tensor.direction == direction
            ]
            for direction in Direction
        }
        assert published[Direction.INPUT] == [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs]
        assert published[Direction.OUTPUT] == [(spec.name, spec.datatype, spec.shape) for spec in signature.outputs]


def test_every_model_has_the_three_plans() -> None:
    loading.load()
    for model in MLModel.objects.all():
        terms = [(plan.name, plan.included_units, plan.requests_per_second) for plan in model.plans.all()]
        assert terms == [("Trial", 50, 1_000), ("Free", 1_000, 10), ("Scale", 1_000_000_000, 100_000)]
        assert model.plans.get(name="Trial").price == Decimal(0)
        assert not model.plans.exclude(overage_price=None).exists()


def test_acme_is_subscribed_to_all_on_scale_and_globex_to_none() -> None:
    loading.load()
    held = ModelSubscription.objects.values_list("tenant__slug", "model__name", "plan__name")
    assert set(held) == {("acme", ref.removeprefix("openlab/"), "Scale") for ref in REFS}


def test_everybody_signs_in_with_what_the_file_says(data_dir: Path) -> None:
    loading.load()
    for told in demo(data_dir)["users"]:
        user = User.objects.get(email=told["email"])
        assert user.check_password(told["password"])
        memberships = Membership.objects.filter(user=user).values_list("tenant__slug", "role")
        assert list(memberships) == ([(told["tenant"], told["role"])] if told["tenant"] else [])
        assert user.is_superuser is (told["role"] == "STAFF")


def test_each_key_acts_for_its_tenant(data_dir: Path) -> None:
    loading.load()
    for slug, secret in demo(data_dir)["apiKeys"].items():
        principal = principal_from_key(secret)
        assert Membership.objects.filter(tenant_id=principal.tenant_id, tenant__slug=slug).exists()
        assert principal.is_publisher is (slug == "openlab")


def test_secrets_are_for_the_owner_of_the_file_alone(data_dir: Path) -> None:
    loading.load()
    assert stat.S_IMODE((data_dir / "demo.json").stat().st_mode) == 0o600


def test_a_second_start_changes_nothing(data_dir: Path) -> None:
    loading.load()
    rows, file = every_row(), (data_dir / "demo.json").read_text()
    assert loading.load() == []
    assert every_row() == rows
    assert (data_dir / "demo.json").read_text() == file


def test_a_later_start_leaves_alone_what_people_changed(data_dir: Path) -> None:
    # given a cancelled subscription, another plan, another live version, a new password, a revoked key, a lost member
    loading.load()
    add, tumour = (ModelSubscription.objects.get(model__name=name) for name in ("add", "tumour"))
    subscriptions.cancel(acme_owner(), subscription_id=add.pk)
    trial = tumour.model.plans.get(name="Trial")
    subscriptions.subscribe(acme_owner(), model_ref="openlab/tumour", plan_id=trial.pk)
    publisher = principal_from_key(demo(data_dir)["apiKeys"]["openlab"])
    second = ModelVersion.objects.get(model__name="digits", number=2)
    releases.release(publisher, version_id=second.pk)
    releases.promote_ready([second.pk])
    carol = User.objects.get(email="carol@globex.example")
    carol.set_password("another one")
    carol.save()
    tenants.revoke_api_key(acme_owner(), api_key_id=ApiKey.objects.get(tenant__slug="acme").pk)
    Membership.objects.get(user__email="bob@acme.example").delete()
    rows = every_row()

    # when the marketplace starts again
    loading.load()

    # then all of it stands
    assert every_row() == rows


def test_after_the_file_is_lost_new_secrets_are_drawn_and_the_old_ones_are_worth_nothing(data_dir: Path) -> None:
    loading.load()
    lost = demo(data_dir)
    own, _secret = tenants.create_api_key(acme_owner(), name="acme's own")
    (data_dir / "demo.json").unlink()

    loading.load()

    drawn = demo(data_dir)
    for before, after in zip(lost["users"], drawn["users"], strict=True):
        user = User.objects.get(email=after["email"])
        assert user.check_password(after["password"])
        assert not user.check_password(before["password"])
    for slug, secret in drawn["apiKeys"].items():
        assert secret != lost["apiKeys"][slug]
        assert principal_from_key(secret)
    live = ApiKey.objects.filter(tenant__slug="acme", revoked_at=None)
    assert live.count() == 2
    assert own in live


@pytest.mark.parametrize("content", ["", "[]", "{", '{"users": [{}]}', '{"users": [], "apiKeys": []}'])
def test_a_file_that_cannot_be_understood_counts_as_lost(data_dir: Path, content: str) -> None:
    (data_dir / "demo.json").write_text(content)
    loading.load()
    assert set(demo(data_dir)["apiKeys"]) == {"acme", "globex", "openlab"}


def test_a_new_database_takes_the_passwords_that_the_file_keeps(data_dir: Path) -> None:
    loading.load()
    kept = demo(data_dir)
    ApiKey.objects.all().delete()
    User.objects.all().delete()

    loading.load()

    assert demo(data_dir)["users"] == kept["users"]
    assert User.objects.get(email="bob@acme.example").check_password(kept["users"][2]["password"])


def test_the_file_says_where_the_site_is_now(data_dir: Path, settings: Settings) -> None:
    loading.load()
    settings.PUBLIC_URL = "http://localhost:9090"
    loading.load()
    assert demo(data_dir)["url"] == "http://localhost:9090"


def test_the_command_names_what_is_new_and_is_silent_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("load_demo")
    assert "openlab/digits" in capsys.readouterr().out
    call_command("load_demo")
    assert capsys.readouterr().out == ""
