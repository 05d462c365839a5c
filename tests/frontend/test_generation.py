"""The form of a model that writes text, as it works without JavaScript."""

import json
from typing import Any

import pytest
from django.http import QueryDict

from frontend.generation import asked
from frontend.tasks import writes
from marketplace.catalog.models import Datatype, Direction, MLModel
from tests import factories
from tests.frontend.conftest import Marketplace, words

URL = "/models/openlab/poet/"
TENSOR = {"datatype": "BYTES", "shape": ["1"]}
VERSION = {"inputs": [TENSOR | {"name": "text_input"}], "outputs": [TENSOR | {"name": "text_output"}]}


@pytest.fixture
def poet(marketplace: Marketplace) -> MLModel:
    """Loaded nowhere."""
    model = factories.model(marketplace.openlab, "poet", task="TEXT_GENERATION", tags=["chat"])
    version = factories.version(model, decoupled=True)
    names = {"A": ("text_input", Direction.INPUT), "SUM": ("text_output", Direction.OUTPUT)}
    version.tensors.filter(name="B").delete()
    for old, (new, direction) in names.items():
        version.tensors.filter(name=old).update(
            name=new, direction=direction, datatype=Datatype.BYTES, shape=[1], example=["Once"], example_shape=[1]
        )
    return model


def posted(**fields: str) -> dict[str, Any]:
    query = QueryDict(mutable=True)
    query.update({"form": "generate", "model": "openlab/poet", "prompt": "Once"} | fields)
    return asked(query)


def test_a_model_that_writes_has_a_form_for_its_prompt(marketplace: Marketplace, poet: MLModel) -> None:
    page = marketplace.owner.client.get(URL).content.decode()

    assert 'id="generate-form"' in page
    assert ">Once</textarea>" in page
    assert 'id="try-form"' not in page
    assert 'id="generate-form"' not in marketplace.owner.client.get("/models/openlab/digits/").content.decode()


def test_what_was_refused_is_said_beside_what_was_typed(marketplace: Marketplace, poet: MLModel) -> None:
    form = {"form": "generate", "model": poet.ref, "prompt": "<Once>", "max_tokens": "7", "temperature": "0"}

    # Refused before admission, whose connections would have to end with this request's own event loop.
    response = marketplace.colleague.client.post(URL, form)

    page = response.content.decode()
    assert response.status_code == 422
    assert "Your role may not invoke models here." in words(response)
    assert page.count('class="problem"') == 1
    assert "&lt;Once&gt;</textarea>" in page
    assert 'name="max_tokens" type="number" inputmode="decimal" min="1" max="100000" step="1" value="7"' in page


def test_nobody_is_asked_to_sign_in(marketplace: Marketplace, poet: MLModel) -> None:
    response = marketplace.anonymous.client.post(URL, {"form": "generate", "model": poet.ref, "prompt": "Once"})

    assert response.status_code == 302
    assert response.headers["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, {}),
        ({"max_tokens": " 20 ", "seed": "-3"}, {"max_tokens": 20, "seed": -3}),
        ({"temperature": "0.7", "top_p": "1"}, {"temperature": 0.7, "top_p": 1}),
        ({"max_tokens": "many"}, {"max_tokens": "many"}),
        ({"stop": 'a "b"'}, {"stop": json.dumps(['a "b"'])}),
        ({"temperature": "", "stop": ""}, {}),
    ],
)
def test_what_is_set_becomes_parameters(fields: dict[str, str], parameters: dict[str, Any]) -> None:
    call = posted(**fields)

    assert call["parameters"] == parameters
    assert call["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Once"]}]
    assert call["version"] is None


def test_a_message_in_a_chat_is_sent_as_one() -> None:
    call = posted(chat="yes", version="3")

    assert json.loads(call["inputs"][0]["data"][0]) == [{"role": "user", "content": "Once"}]
    assert call["parameters"] == {"apply_chat_template": True}
    assert call["version"] == 3


@pytest.mark.parametrize("version", ["", "x", "-1", "9" * 20])
def test_a_version_that_is_none_is_the_live_one(version: str) -> None:
    assert posted(version=version)["version"] is None


@pytest.mark.parametrize(
    ("task", "change", "so"),
    [
        ("TEXT_GENERATION", {}, True),
        ("OTHER", {}, False),
        ("TEXT_GENERATION", {"inputs": []}, False),
        ("TEXT_GENERATION", {"inputs": [TENSOR | {"name": "text_input", "shape": ["-1"]}]}, False),
        ("TEXT_GENERATION", {"outputs": [TENSOR | {"name": "text"}]}, False),
    ],
)
def test_what_writes_is_known_by_task_and_tensors(task: str, change: dict[str, Any], so: bool) -> None:
    assert writes({"task": task}, VERSION | change) is so
