"""Text for the unmodified `openai` package, in one piece: Triton's own, counted as the ledger counts it."""

import asyncio
import json
from typing import Any

import numpy as np
import openai
import pytest
import tritonclient.grpc as triton
from openai.types.chat import ChatCompletionMessageParam

from tests.doors.openai.conftest import AsyncClient, Client
from tests.doors.openai.requests import error_of, post
from tests.doors.site import Site

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
CHAT, TEXT = "chat/completions", "completions"


def directly(site: Site, model: str, text: str, **parameters: Any) -> dict[str, Any]:
    """Triton's answer in one piece."""
    asked = triton.InferInput("text_input", [1], "BYTES")
    asked.set_data_from_numpy(np.array([text.encode()], np.object_))
    answers: list[Any] = []
    with triton.InferenceServerClient(site.triton_grpc) as server:
        server.start_stream(lambda result, error: answers.append(error or result))
        server.async_stream_infer(site.version(model).triton_name, [asked], parameters={"stream": False, **parameters})
        server.stop_stream()
    (answer,) = answers
    return {output.name: answer.as_numpy(output.name)[0] for output in answer.get_response().outputs}


def test_a_chat_is_answered_as_by_triton(site: Site, client: Client, babbler: str) -> None:
    told = directly(site, babbler, json.dumps(HELLO), apply_chat_template=True, temperature=0.0, max_tokens=40)

    answer = client().chat.completions.create(model=babbler, messages=HELLO, temperature=0, max_tokens=40)

    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", told["text_output"].decode())
    assert choice.finish_reason == told["finish_reason"].decode() == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        told["prompt_token_count"],
        40,
        told["token_count"],
    )


def test_a_text_is_continued_as_by_triton(site: Site, client: Client, babbler: str) -> None:
    told = directly(site, babbler, "Once upon", temperature=0.0, max_tokens=16)

    # OpenAI's own default: 16 tokens.
    answer = client().completions.create(model=babbler, prompt="Once upon", temperature=0)

    assert answer.choices[0].text == told["text_output"].decode()
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (16, told["token_count"])


def test_the_answer_says_which_call_and_which_version_it_was(site: Site, client: Client, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100, included_units=1000)

    chat = client(key).chat.completions.create(model=f"{babbler}@1", messages=HELLO, max_tokens=3)
    text = client(key).completions.create(model=babbler, prompt="a", max_tokens=3)

    holds = site.holds(key)
    assert [chat.id, text.id] == [f"chatcmpl-{holds[0].pk}", f"cmpl-{holds[1].pk}"]
    assert (chat.object, text.object) == ("chat.completion", "text_completion")
    assert (chat.model, text.model) == (f"{babbler}@1", babbler)
    assert chat.system_fingerprint == text.system_fingerprint == f"{babbler}@1"


def test_charged_is_the_usage(site: Site, client: Client, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100, included_units=1000)

    answer = client(key).chat.completions.create(model=babbler, messages=HELLO, max_tokens=7)

    assert answer.usage is not None
    assert [(hold.state, hold.charged) for hold in site.holds(key)] == [("settled", answer.usage.total_tokens)]


def test_no_more_is_written_than_the_plan_pays_for(site: Site, client: Client, babbler: str) -> None:
    key = site.customer(babbler, unit="TOKEN", max_tokens_per_call=100, included_units=30)

    answer = client(key).chat.completions.create(model=babbler, messages=HELLO, max_tokens=70)

    assert answer.usage is not None
    assert (answer.usage.total_tokens, answer.choices[0].finish_reason) == (30, "length")
    with pytest.raises(openai.RateLimitError) as refused:
        client(key).chat.completions.create(model=babbler, messages=HELLO)
    assert refused.value.code == "insufficient_quota"


def test_a_seed_makes_the_same_text_again(client: Client, babbler: str) -> None:
    def text(seed: int) -> str | None:
        answer = client().chat.completions.create(
            model=babbler, messages=HELLO, seed=seed, temperature=1.5, top_p=0.9, max_tokens=40
        )
        return answer.choices[0].message.content

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(3)}) == 3


@pytest.mark.parametrize("several", [False, True])
def test_a_stop_string_ends_the_text_and_is_no_part_of_it(client: Client, babbler: str, several: bool) -> None:
    def text(**options: Any) -> tuple[str | None, str]:
        answer = client().chat.completions.create(
            model=babbler, messages=HELLO, temperature=0, max_tokens=40, **options
        )
        return answer.choices[0].message.content, answer.choices[0].finish_reason

    whole, _ = text()
    assert whole is not None
    stop = whole[6:9]

    cut = text(stop=["no such thing", stop] if several else stop)

    assert cut == (whole.partition(stop)[0], "stop")


def test_messages_of_every_kind(site: Site, client: Client, babbler: str) -> None:
    told = directly(
        site,
        babbler,
        json.dumps(
            [
                {"role": "system", "content": "Be brief. 漢字"},
                {"role": "user", "content": "one two"},
                {"role": "assistant", "content": "three"},
                {"role": "user", "content": ""},
            ]
        ),
        apply_chat_template=True,
        temperature=0.0,
        max_tokens=10,
    )

    answer = client().chat.completions.create(
        model=babbler,
        messages=[
            {"role": "developer", "content": "Be brief. 漢字"},
            {
                "role": "user",
                "name": "ann",
                "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
            },
            {"role": "assistant", "content": "three", "refusal": None, "tool_calls": []},
            {"role": "user", "content": ""},
        ],
        temperature=0,
        max_completion_tokens=10,
    )

    assert answer.choices[0].message.content == told["text_output"].decode()


async def test_many_at_once_get_their_own(site: Site, async_client: AsyncClient, babbler: str) -> None:
    ours = async_client()

    async def text(number: int) -> str:
        answer = await ours.completions.create(model=babbler, prompt=f"No. {number}", temperature=0, max_tokens=24)
        return answer.choices[0].text

    together = await asyncio.gather(*map(text, range(12)))

    assert together == [await text(number) for number in range(12)]


def test_what_changes_no_answer_is_let_through(site: Site, babbler: str) -> None:
    body = {
        "model": babbler,
        "messages": HELLO,
        "max_tokens": 2,
        "n": 1,
        "user": "u",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "presence_penalty": 0.0,
        "frequency_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "stop": ["\x00" * 128] * 4,
        "stream": False,
        "parallel_tool_calls": True,
    }

    assert post(site, CHAT, body).status_code == 200


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "Hello"}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": HELLO * 2049}, "messages", "invalid_value"),
        ({"messages": ["Hello"]}, "messages.0", "invalid_type"),
        ({"messages": [*HELLO, {"role": "robot", "content": "a"}]}, "messages.1.role", "invalid_value"),
        ({"messages": [{"role": [], "content": "a"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "invalid_type"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0",
            "invalid_type",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
            "messages.0.tool_calls",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages", None),
        ({"messages": [{"role": "user", "content": "a " * 5000}]}, "messages", None),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"top_p": -1}, "top_p", "invalid_value"),
        ({"top_p": 10**400}, "top_p", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop", "invalid_value"),
        ({"stop": [7]}, "stop", "invalid_type"),
        ({"stop": {"a": 1}}, "stop", "invalid_type"),
        ({"stop": ["a" * 129]}, "stop", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"more": 1}}, "stream_options", "invalid_type"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"n": True}, "n", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"presence_penalty": 0.5}, "presence_penalty", "unsupported_parameter"),
        ({"logit_bias": {"7": 1}}, "logit_bias", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"prompt": "a"}, "prompt", "unknown_parameter"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    site: Site, babbler: str, changes: dict[str, object], param: str, code: str | None
) -> None:
    body = {"model": babbler, "messages": HELLO} | changes

    assert error_of(post(site, CHAT, json.dumps(body).encode())) == (400, param, code)


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", None),
        ({"prompt": ["a", "b"]}, "prompt", "invalid_type"),
        ({"prompt": [1, 2]}, "prompt", "invalid_type"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"echo": True}, "echo", "unsupported_parameter"),
        ({"suffix": "z"}, "suffix", "unsupported_parameter"),
        ({"logprobs": 1}, "logprobs", "unsupported_parameter"),
        ({"messages": HELLO}, "messages", "unknown_parameter"),
    ],
)
def test_what_a_text_cannot_have(
    site: Site, babbler: str, changes: dict[str, object], param: str, code: str | None
) -> None:
    body = {"model": babbler, "prompt": "a"} | changes

    assert error_of(post(site, TEXT, body)) == (400, param, code)


@pytest.mark.parametrize(("path", "model"), [(CHAT, "openlab/minilm"), (TEXT, "openlab/add")])
def test_a_model_of_another_kind_does_not_answer(site: Site, path: str, model: str) -> None:
    body = {"model": model, "messages": HELLO} if path == CHAT else {"model": model, "prompt": "a"}

    assert error_of(post(site, path, body)) == (404, "model", "model_not_found")


def test_a_generator_makes_no_embeddings(site: Site, babbler: str) -> None:
    assert error_of(post(site, "embeddings", {"model": babbler, "input": "a"})) == (404, "model", "model_not_found")


def test_it_is_listed(client: Client, babbler: str) -> None:
    assert babbler in {model.id for model in client().models.list()}
