"""The list of models: what the caller may call, and this door can answer."""

import openai
import pytest

from tests.doors.openai.conftest import Client
from tests.doors.site import Site


def test_a_subscriber_sees_what_it_has_subscribed_to(site: Site, client: Client) -> None:
    listed = {model.id: model for model in client().models.list()}

    assert "openlab/minilm" in listed
    # Calls of another kind are not answered here.
    assert not {"openlab/add", "openlab/secret", "openlab/sentiment"} & set(listed)
    found = listed["openlab/minilm"]
    assert (found.object, found.owned_by) == ("model", "openlab")
    version = site.version("openlab/minilm")
    assert found.created == int(version.model.created_at.timestamp())


def test_an_owner_sees_its_own(client: Client) -> None:
    assert "openlab/minilm" in {model.id for model in client("owner").models.list()}


def test_a_stranger_sees_nothing(client: Client) -> None:
    assert list(client("stranger").models.list()) == []


def test_a_viewer_may_call_nothing(client: Client) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        client("viewer").models.list()


def test_without_a_valid_key(client: Client) -> None:
    with pytest.raises(openai.AuthenticationError):
        client("revoked").models.list()


@pytest.mark.parametrize("name", ["openlab/minilm", "openlab/minilm@1"])
def test_one_model_by_its_name(client: Client, name: str) -> None:
    found = client().models.retrieve(name)

    assert (found.id, found.owned_by) == (name, "openlab")


@pytest.mark.parametrize("name", ["openlab/add", "openlab/minilm@7", "openlab/nothing", "nothing", "a\0b/c"])
def test_a_model_that_does_not_answer_here(client: Client, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client().models.retrieve(name)

    assert refused.value.code == "model_not_found"


def test_what_one_has_not_subscribed_to_is_as_what_does_not_exist(client: Client) -> None:
    with pytest.raises(openai.NotFoundError):
        client("stranger").models.retrieve("openlab/minilm")
