"""Embeddings for the unmodified `openai` package: Triton's own numbers, to the last bit."""

import asyncio
import base64
import json
from typing import Any, Literal

import numpy as np
import openai
import pytest
import tritonclient.grpc as triton

from tests.doors.openai.conftest import AsyncClient, Client
from tests.doors.openai.requests import error_of, post
from tests.doors.site import Site

MODEL = "openlab/minilm"
TEXTS = ["A dog runs through the park.", "Ünïcödé, 漢字 and 😀.", "a " * 400]
# The first one, as the model's tokenizer has it.
DOG = [101, 1037, 3899, 3216, 2083, 1996, 2380, 1012, 102]


@pytest.fixture(scope="module")
def direct(site: Site) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What Triton answers for TEXTS."""
    asked = triton.InferInput("text", [len(TEXTS)], "BYTES")
    asked.set_data_from_numpy(np.array([text.encode() for text in TEXTS], np.object_))
    with triton.InferenceServerClient(site.triton_grpc) as server:
        answer = server.infer(site.version(MODEL).triton_name, [asked])
    return np.asarray(answer.as_numpy("embedding"))


def test_vectors_are_tritons_to_the_last_bit(client: Client, direct: Any) -> None:
    as_floats = client().embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    # Unasked, the package asks for base64 and decodes it.
    as_usual = client().embeddings.create(model=MODEL, input=TEXTS)

    for answer in (as_floats, as_usual):
        assert np.array([each.embedding for each in answer.data], np.float32).tobytes() == direct.tobytes()
        assert [each.index for each in answer.data] == [0, 1, 2]
        assert (answer.model, answer.object) == (MODEL, "list")
    assert [each.embedding for each in as_floats.data] == [each.embedding for each in as_usual.data]


def test_base64_is_little_endian_float32(site: Site, direct: Any) -> None:
    answer = post(site, "embeddings", {"model": MODEL, "input": TEXTS, "encoding_format": "base64"}).json()

    assert b"".join(base64.b64decode(each["embedding"]) for each in answer["data"]) == direct.astype("<f4").tobytes()


def test_token_ids_are_embedded_as_their_text(client: Client) -> None:
    def embedded(asked: Any) -> tuple[list[list[float]], int]:
        answer = client().embeddings.create(model=MODEL, input=asked)
        return [each.embedding for each in answer.data], answer.usage.prompt_tokens

    assert embedded(DOG) == embedded(TEXTS[0])
    assert embedded([DOG, DOG[1:-1]]) == embedded([TEXTS[0], TEXTS[0]])


def test_usage_is_the_models_own_count(client: Client) -> None:
    usage = client().embeddings.create(model=MODEL, input=TEXTS).usage

    assert usage.prompt_tokens == usage.total_tokens == 9 + 9 + 256


async def test_many_at_once_get_their_own(async_client: AsyncClient, direct: Any) -> None:
    ours = async_client()
    answers = await asyncio.gather(
        *(ours.embeddings.create(model=MODEL, input=TEXTS[number % 3]) for number in range(24))
    )

    for number, answer in enumerate(answers):
        assert np.allclose(answer.data[0].embedding, direct[number % 3], atol=1e-5)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_long_list_keeps_its_order(client: Client, encoding: Literal["float", "base64"]) -> None:
    texts = [f"{number}" for number in range(150)]

    answer = client().embeddings.create(model=MODEL, input=texts, encoding_format=encoding)

    assert [each.index for each in answer.data] == list(range(150))
    alone = client().embeddings.create(model=MODEL, input=texts[149]).data[0].embedding
    vectors = [
        np.frombuffer(base64.b64decode(each.embedding), "<f4") if encoding == "base64" else each.embedding  # type: ignore[call-overload]
        for each in answer.data
    ]
    assert np.argmax(np.array(vectors) @ np.array(alone)) == 149


def test_a_version_may_be_named(client: Client) -> None:
    assert client().embeddings.create(model=f"{MODEL}@1", input="a").model == f"{MODEL}@1"
    with pytest.raises(openai.NotFoundError):
        client().embeddings.create(model=f"{MODEL}@7", input="a")


def test_what_changes_no_answer_is_let_through(site: Site) -> None:
    body = {"model": MODEL, "input": "a", "dimensions": 384, "user": "u", "encoding_format": None}

    assert post(site, "embeddings", body).status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 7}, "model", "invalid_type"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input.0", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": ["a", 7]}, "input.1", "invalid_type"),
        ({"input": ["a", [7]]}, "input.1", "invalid_type"),
        ({"input": [[7], []]}, "input.1", "invalid_value"),
        ({"input": [7, "a"]}, "input.0", "invalid_type"),
        ({"input": [7, -1]}, "input.0", "invalid_type"),
        ({"input": [True]}, "input.0", "invalid_type"),
        ({"input": 7}, "input.0", "invalid_type"),
        ({"input": [40_000]}, "input", None),
        ({"input": {"text": "a"}}, "input.0", "invalid_type"),
        ({"input": "\ud800"}, "input", None),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"encoding_format": []}, "encoding_format", "invalid_value"),
        ({"dimensions": 64}, "dimensions", "unsupported_parameter"),
        ({"dimensions": "64"}, "dimensions", "invalid_type"),
        ({"dimensions": True}, "dimensions", "invalid_type"),
        ({"temperature": 1}, "temperature", "unknown_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    site: Site, changes: dict[str, object], param: str, code: str | None
) -> None:
    body = {"model": MODEL, "input": "a"} | changes

    assert error_of(post(site, "embeddings", json.dumps(body).encode())) == (400, param, code)


def test_a_call_is_charged_once_for_an_idempotency_key(site: Site) -> None:
    key = site.customer(MODEL, included_units=10)
    body = {"model": MODEL, "input": "once"}

    answers = [post(site, "embeddings", body, key, idempotency_key="one").json() for _ in range(2)]

    assert answers[0] == answers[1]
    assert [(hold.state, hold.charged) for hold in site.holds(key)] == [("settled", 1)]
