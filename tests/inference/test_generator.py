"""Text from a language model on Triton: in one batch with others, and as if there were none."""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest

from inference import gateway
from inference.formats import read_signature
from inference.repository import triton_models
from marketplace.errors import InferenceFailed, InputRefused, ModelUnavailable
from tests.inference import generators
from tests.inference.conftest import Deploy
from tests.inference.ensembles import words
from tests.inference.generators import Answer, ask, stream
from tests.inference.processes import processes_of, worked

SLOTS = 8
PROMPTS = [
    f"{word} " * (7 * number + 1) for number, word in enumerate(("the", "cat", "sat", "on", "a", "mat", "é", "😀"))
]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
CONTEXT = 4096


@pytest.fixture(scope="module")
def babbler(triton: str) -> Iterator[str]:
    """Loaded once: every test asks it the same way, and none changes it."""
    (model,) = triton_models(
        str(uuid4()), "ensemble", generators.archive(), read_signature(generators.archive(), "ensemble")
    )

    async def load() -> None:
        await gateway.load(triton, model.name, model.config, model.files)
        await gateway.close()

    async def unload() -> None:
        await gateway.unload(triton, model.name)
        await gateway.close()

    asyncio.run(load())
    yield model.name
    asyncio.run(unload())


async def endless(address: str, model: str) -> str:
    """A prompt whose greedy answer goes on to the end of the context."""
    for prompt in PROMPTS:
        if (await ask(address, model, prompt, temperature=0)).reason == "length":
            return prompt
    raise AssertionError("each of them comes to an end")


class TestOneRequest:
    async def test_deltas_add_up_to_the_answer_in_one_piece(self, triton: str, babbler: str) -> None:
        deltas = [delta async for delta in stream(triton, babbler, "the cat sat", **GREEDY)]
        whole = [delta async for delta in stream(triton, babbler, "the cat sat", stream=False, **GREEDY)]

        assert len(deltas) > 10
        assert "".join(delta.text for delta in deltas) == whole[0].text
        assert [delta.reason for delta in deltas] == [""] * (len(deltas) - 1) + ["length"]
        assert len(whole) == 1
        assert whole[0].reason == "length"

    async def test_tokens_are_counted_and_the_first_response_counts_the_prompts_too(
        self, triton: str, babbler: str
    ) -> None:
        # " t", "he" and so on are one token each, other letters one for each byte
        deltas = [delta async for delta in stream(triton, babbler, "the cat é", **GREEDY)]
        [whole] = [delta async for delta in stream(triton, babbler, "the cat é", stream=False, **GREEDY)]

        assert {delta.prompt_tokens for delta in (*deltas, whole)} == {len(["t", "he", " ", "c", "a", "t", " ", "é"])}
        assert deltas[0].tokens > 8
        assert sum(delta.tokens for delta in deltas) == whole.tokens == 8 + 40

    async def test_characters_are_whole_however_many_tokens_they_are_made_of(self, triton: str, babbler: str) -> None:
        """At a high temperature it draws bytes from all over; each delta is decoded on its own."""
        wild: dict[str, Any] = {"temperature": 2, "seed": 11, "max_tokens": 400}
        deltas = [delta async for delta in stream(triton, babbler, "the", **wild)]

        text = "".join(delta.text for delta in deltas)
        assert any(ord(character) > 127 for character in text)
        assert text == (await ask(triton, babbler, "the", stream=False, **wild)).text

    async def test_it_ends_where_the_model_ends(self, triton: str, babbler: str) -> None:
        answers = [await ask(triton, babbler, "the", temperature=1.5, seed=seed) for seed in range(8)]
        ended = [answer for answer in answers if answer.reason == "stop"]
        assert ended
        assert not any("<|im_end|>" in answer.text for answer in answers)

    async def test_it_ends_with_the_context(self, triton: str, babbler: str) -> None:
        prompt = await endless(triton, babbler)
        [whole] = [delta async for delta in stream(triton, babbler, prompt, temperature=0, stream=False)]
        assert (whole.tokens, whole.reason) == (CONTEXT, "length")

    @pytest.mark.parametrize("total", [9, 20])
    async def test_prompt_and_answer_never_pass_what_they_may_have_together(
        self, triton: str, babbler: str, total: int
    ) -> None:
        [whole] = [
            each async for each in stream(triton, babbler, "the cat é", max_total_tokens=total, stream=False, **GREEDY)
        ]
        assert (whole.tokens, whole.reason) == (total, "length")

    async def test_what_follows_a_stop_string_is_not_told(self, triton: str, babbler: str) -> None:
        whole = (await ask(triton, babbler, "the cat sat", **GREEDY)).text
        stop = whole[9:12]
        position = whole.index(stop)

        deltas = [each async for each in stream(triton, babbler, "the cat sat", stop=json.dumps(["€", stop]), **GREEDY)]

        assert "".join(delta.text for delta in deltas) == whole[:position]
        assert deltas[-1].reason == "stop"
        assert sum(delta.tokens for delta in deltas) - deltas[0].prompt_tokens < 40

    async def test_messages_are_put_into_the_models_own_form(self, triton: str, babbler: str) -> None:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé?"}]
        written = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHé?<|im_end|>\n<|im_start|>assistant\n"

        answer = await ask(triton, babbler, json.dumps(messages), apply_chat_template=True, **GREEDY)

        assert answer == await ask(triton, babbler, written, **GREEDY)


class TestDrawing:
    async def test_equal_seeds_draw_equally_and_others_do_not(self, triton: str, babbler: str) -> None:
        async def drawn(seed: int) -> Answer:
            return await ask(triton, babbler, "the", temperature=1, top_p=0.9, seed=seed, max_tokens=30)

        assert await drawn(4) == await drawn(4)
        assert len({(await drawn(seed)).text for seed in (-1, 0, 4, 2**63 - 1)}) == 4

    async def test_the_narrowest_nucleus_is_the_likeliest_token(self, triton: str, babbler: str) -> None:
        drawn = await ask(triton, babbler, "the", temperature=2, top_p=0, seed=1, max_tokens=30)
        assert drawn == await ask(triton, babbler, "the", temperature=0, max_tokens=30)

    async def test_numbers_may_come_as_strings(self, triton: str, babbler: str) -> None:
        drawn = await ask(triton, babbler, "the", temperature="1.5", seed="4", max_tokens="30")
        assert drawn == await ask(triton, babbler, "the", temperature=1.5, seed=4, max_tokens=30)


class TestCompany:
    async def test_a_batch_answers_each_as_if_it_were_alone(self, triton: str, babbler: str) -> None:
        asked = [{"temperature": number % 3 / 2, "seed": number, "max_tokens": 60} for number in range(len(PROMPTS))]
        alone = [await ask(triton, babbler, prompt, **each) for prompt, each in zip(PROMPTS, asked, strict=True)]

        together = await asyncio.gather(
            *(ask(triton, babbler, prompt, **each) for prompt, each in zip(PROMPTS, asked, strict=True))
        )

        assert together == alone
        assert len({answer.text for answer in alone}) == len(PROMPTS)

    async def test_who_joins_and_who_leaves_changes_nothing_for_who_is_there(self, triton: str, babbler: str) -> None:
        prompt = await endless(triton, babbler)
        alone = await ask(triton, babbler, prompt, temperature=0, max_tokens=600)
        others = [await ask(triton, babbler, each, **GREEDY) for each in PROMPTS]

        text, joined = "", []
        async for delta in stream(triton, babbler, prompt, temperature=0, max_tokens=600):
            text += delta.text
            if len(joined) < len(PROMPTS):
                joined.append(asyncio.create_task(ask(triton, babbler, PROMPTS[len(joined)], **GREEDY)))

        assert text == alone.text
        assert await asyncio.gather(*joined) == others

    async def test_fifty_share_eight_slots(self, triton: str, babbler: str) -> None:
        alone = [await ask(triton, babbler, prompt, **GREEDY) for prompt in PROMPTS]
        answers = await asyncio.gather(*(ask(triton, babbler, PROMPTS[n % SLOTS], **GREEDY) for n in range(50)))
        assert answers == [alone[n % SLOTS] for n in range(50)]

    async def test_a_poisoned_request_harms_no_other(self, triton: str, babbler: str) -> None:
        alone = await ask(triton, babbler, "the", temperature=0, max_tokens=300)
        others: list[asyncio.Task[Answer]] = []
        text = ""
        async for delta in stream(triton, babbler, "the", temperature=0, max_tokens=300):
            text += delta.text
            if not others:
                others = [asyncio.create_task(ask(triton, babbler, b"\xff")) for _ in range(SLOTS)]
        failures = await asyncio.gather(*others, return_exceptions=True)

        assert text == alone.text
        assert all(isinstance(failure, InputRefused) for failure in failures)

    async def test_a_caller_who_leaves_gives_the_slot_back(self, triton: str, babbler: str) -> None:
        """Told by the work that is done: eight answers to the end of the context cannot cost less than one."""
        [process] = processes_of(babbler)
        prompt = await endless(triton, babbler)
        before = worked(process)
        await ask(triton, babbler, prompt, temperature=0)
        one = worked(process) - before

        async def taste() -> None:
            async with aclosing(stream(triton, babbler, prompt, temperature=0)) as deltas:
                async for _ in deltas:
                    return

        before = worked(process)
        await asyncio.gather(*(taste() for _ in range(SLOTS)))
        await ask(triton, babbler, prompt, temperature=0, max_tokens=1)

        assert worked(process) - before < one

    async def test_more_than_may_wait_are_told_to_come_back(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(generators.altered(slots=1), "ensemble")
        prompt = await endless(triton, model)
        async with aclosing(stream(triton, model, prompt, temperature=0)) as deltas:
            await anext(deltas)
            asked = [asyncio.create_task(ask(triton, model, "the", temperature=0, max_tokens=1)) for _ in range(80)]
            async for _ in deltas:
                pass
        answers = await asyncio.gather(*asked, return_exceptions=True)

        refused = [answer for answer in answers if isinstance(answer, ModelUnavailable)]
        assert refused
        assert all(answer.retry_after_ms and "too many requests wait" in answer.message for answer in refused)
        assert len([answer for answer in answers if isinstance(answer, Answer)]) == len(answers) - len(refused)


class TestRefusals:
    @pytest.mark.parametrize(
        ("prompt", "parameters", "reason"),
        [
            (b"\xff", {}, "text_input is not UTF-8"),
            ("", {}, "the prompt is empty"),
            ("x" * CONTEXT, {}, "the prompt has 4096 tokens, and prompt and answer together may have 4096"),
            ("x" * 100_000, {}, "longer than 4096 tokens can be"),
            ("xyz", {"max_total_tokens": 3}, "the prompt has 3 tokens, and prompt and answer together may have 3"),
            ("x", {"max_tokens": 0}, "max_tokens is a whole number of at least 1"),
            ("x", {"max_tokens": True}, "max_tokens is a whole number"),
            ("x", {"max_tokens": "many"}, "max_tokens is a whole number"),
            ("x", {"seed": 1.5}, "seed is a whole number"),
            ("x", {"temperature": 2.5}, "temperature is a number from 0 to 2"),
            ("x", {"temperature": "nan"}, "temperature is a number from 0 to 2"),
            ("x", {"top_p": -0.1}, "top_p is a number from 0 to 1"),
            ("x", {"stream": "no"}, "stream is true or false"),
            ("x", {"stop": "a"}, "stop is not JSON"),
            ("x", {"stop": '"a"'}, "stop is a list of strings"),
            ("x", {"stop": '[""]'}, "stop has at most 16 strings of 1 to 256 characters"),
            ("x", {"apply_chat_template": True}, "text_input is not JSON"),
            ("[" * 10_000, {"apply_chat_template": True}, "text_input is not JSON"),
            ("[]", {"apply_chat_template": True}, "text_input is a list of 1 to 2048 messages"),
            ('[{"role": "user"}]', {"apply_chat_template": True}, "message 0 is not an object of role and content"),
            ('[{"role": "x", "content": ""}]', {"apply_chat_template": True}, "the role of message 0 is not one of"),
            (
                '[{"role": "user", "content": "Hi"}, {"role": "user", "content": "<|im_end|>"}]',
                {"apply_chat_template": True},
                r"message 1 contains <\|im_end\|>, by which this model tells messages apart",
            ),
            ('[{"role": "user", "content": 1}]', {"apply_chat_template": True}, "the content of message 0 is not a"),
        ],
    )  # fmt: skip
    async def test_what_is_wrong_is_said(
        self, triton: str, babbler: str, prompt: str | bytes, parameters: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(InputRefused, match=reason):
            await ask(triton, babbler, prompt, **parameters)

    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            (None, "this model has no chat template"),
            ("{{ raise_exception('roles take turns') }}", "does not take these messages: roles take turns"),
            ("{% for _ in range(90000) %}{{ 'x' * 1000 }}{% endfor %}", "longer than the model's context"),
            ("{{ messages.append(1) }}", "does not take these messages"),
            ("{{ ''.__class__.__base__ }}", "does not take these messages"),
        ],
    )
    async def test_a_template_can_do_nothing_but_write_so_much(
        self, triton: str, deploy: Deploy, template: str | None, reason: str
    ) -> None:
        model = await deploy(generators.altered(chat_template=template), "ensemble")
        with pytest.raises(InputRefused, match=reason):
            await ask(triton, model, '[{"role": "user", "content": "x"}]', apply_chat_template=True)
        assert (await ask(triton, model, "x", max_tokens=1)).drawn == 1

    async def test_a_tokenizer_that_is_not_byte_level_does_not_load(self, deploy: Deploy) -> None:
        with pytest.raises(InferenceFailed, match="byte-level"):
            await deploy(generators.altered({"tokenizer.json": words("the")}), "ensemble")

    async def test_a_tokenizer_of_another_model_does_not_load(self, deploy: Deploy) -> None:
        with zipfile.ZipFile(io.BytesIO(generators.archive())) as packed:
            tokenizer = json.loads(packed.read("generator/tokenizer.json"))
        tokenizer["model"]["vocab"] |= {"x" * length: 300 + length for length in range(2, 12)}

        with pytest.raises(InferenceFailed, match="tokens that the network does not know"):
            await deploy(generators.altered({"tokenizer.json": json.dumps(tokenizer).encode()}), "ensemble")
