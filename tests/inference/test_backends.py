"""The backends answer on Triton what onnxruntime and the tokenizer answer alone, bit for bit."""

import asyncio
import json
import os
import signal
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from inference import gateway
from inference.repository import TritonModel, triton_models
from inference.tensors import Datatype, InferenceRequest, Signature, Tensor, TensorSpec
from inference.tensors.datatypes import STORAGE
from marketplace.errors import DeadlineExceeded, InferenceFailed
from tests.inference import graphs
from tests.inference.conftest import Deploy
from tests.inference.ensembles import COUNTED, TEXT, archive, pipeline, step, words
from tests.inference.processes import processes_of
from tests.inference.test_gateway import until_it_runs

PATIENCE = 20.0


def tensor(name: str, array: NDArray[Any]) -> Tensor:
    datatype = next(each for each, dtype in STORAGE.items() if dtype == array.dtype and each is not Datatype.BF16)
    return Tensor(name, datatype, array.shape, array.tobytes())


def strings(name: str, *texts: bytes, shape: tuple[int, ...] | None = None) -> Tensor:
    content = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return Tensor(name, Datatype.BYTES, shape or (len(texts),), content)


def array(answer: Tensor) -> NDArray[Any]:
    return np.frombuffer(answer.content, STORAGE[answer.datatype]).reshape(answer.shape)


async def ask(address: str, model: str, *inputs: Tensor, **parameters: bool) -> dict[str, Tensor]:
    request = InferenceRequest(inputs, parameters=parameters)
    answer = await gateway.infer(address, model, request, timeout=PATIENCE)
    return {each.name: each for each in answer}


class TestOnnx:
    @pytest.mark.parametrize("bfloat16", [False, True], ids=["numpy", "with bfloat16"])
    async def test_every_datatype_comes_through_bit_for_bit(self, triton: str, deploy: Deploy, bfloat16: bool) -> None:
        datatypes = [each for each in Datatype if each is not (Datatype.BYTES if bfloat16 else Datatype.BF16)]
        model = await deploy(graphs.identity(datatypes))
        random = np.random.default_rng(11)
        for rows in (3, 1, 0):
            sent = []
            for each in datatypes:
                if each is Datatype.BYTES:
                    texts = (b"", "é€😀".encode(), b"a\0b", b"\0", b" x ", b"y" * 70_000)[: rows * 2]
                    sent.append(strings(f"in_{each}", *texts, shape=(rows, 2)))
                else:
                    # Whatever the bits: subnormal numbers, infinities, and NaN with a payload among them.
                    content = random.bytes(rows * 2 * STORAGE[each].itemsize)
                    if each is Datatype.BOOL:
                        content = bytes(byte & 1 for byte in content)
                    sent.append(Tensor(f"in_{each}", each, (rows, 2), content))

            answer = await ask(triton, model, *sent)

            for given in sent:
                got = answer[given.name.replace("in_", "out_")]
                assert (got.datatype, got.shape) == (given.datatype, given.shape)
                assert got.content == given.content, given.datatype

    async def test_numbers_are_onnxruntimes_to_the_last_bit(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(graphs.mixture())
        x = np.random.default_rng(3).normal(size=(5, 33)).astype(np.float32)
        [scores, rows] = graphs.run(graphs.mixture(), {"x": x})

        answer = await ask(triton, model, tensor("x", x))

        assert array(answer["scores"]).tobytes() == scores.tobytes()
        assert array(answer["rows"]).tolist() == rows.tolist() == [5]

    async def test_callers_at_the_same_time_do_not_touch_one_another(self, triton: str, deploy: Deploy) -> None:
        """`rows` tells how many rows ran together; one caller's failure is its own."""
        model, lookup = await deploy(graphs.mixture()), await deploy(graphs.lookup())
        random = np.random.default_rng(5)
        xs = [random.normal(size=(1 + number % 3, 33)).astype(np.float32) for number in range(24)]

        answers = await asyncio.gather(*(ask(triton, model, tensor("x", x)) for x in xs))
        found = await asyncio.gather(
            *(ask(triton, lookup, tensor("index", np.array([index]))) for index in (0, 9, 1, 7, 2)),
            return_exceptions=True,
        )

        for x, answer in zip(xs, answers, strict=True):
            [scores, rows] = graphs.run(graphs.mixture(), {"x": x})
            assert array(answer["scores"]).tobytes() == scores.tobytes()
            assert array(answer["rows"]).tolist() == rows.tolist()
        assert [isinstance(each, InferenceFailed) for each in found] == [False, True, False, True, False]

    async def test_a_scalar_is_a_tensor_of_one(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(graphs.identity([Datatype.FP32, Datatype.BYTES], []))
        number = tensor("in_FP32", np.array([0.5], dtype=np.float32))

        answer = await ask(triton, model, number, strings("in_BYTES", b"text"))

        assert answer["out_FP32"] == tensor("out_FP32", array(number))
        assert answer["out_BYTES"] == strings("out_BYTES", b"text")

    async def test_bytes_that_are_no_text_fail_by_name(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(graphs.identity([Datatype.BYTES], ["n"]))

        with pytest.raises(InferenceFailed, match="'in_BYTES' has an element that is not UTF-8 text"):
            await ask(triton, model, strings("in_BYTES", b"\xff"))

    @pytest.mark.parametrize("leaves", [True, False], ids=["its caller leaves", "its deadline passes"])
    async def test_a_run_ends_soon_when_nobody_waits_for_it(self, triton: str, deploy: Deploy, leaves: bool) -> None:
        model = await deploy(graphs.countdown())
        days = InferenceRequest((tensor("turns", np.array([10**9])),))
        running = asyncio.create_task(gateway.infer(triton, model, days, timeout=PATIENCE if leaves else 0.5))
        if leaves:
            await until_it_runs(model)
            running.cancel()
        with pytest.raises(asyncio.CancelledError if leaves else DeadlineExceeded):
            await running

        # There is one instance: whoever comes next runs after it.
        assert "result" in await ask(triton, model, tensor("turns", np.array([1])))

    async def test_a_configuration_without_tensors_is_completed_from_the_graph(self, triton: str) -> None:
        """As for a plain repository that holds only `1/model.onnx`."""
        model = TritonModel("plain-v1", {"backend": "onnxruntime"}, {"1/model.onnx": graphs.add()})
        await gateway.load(triton, model.name, model.config, model.files)
        one = np.ones(2, dtype=np.float32)

        answer = await ask(triton, model.name, tensor("A", one), tensor("B", one))

        assert array(answer["SUM"]).tolist() == [2, 2]
        await gateway.unload(triton, model.name)


class TestTokenizer:
    async def test_texts_become_padded_ids_with_their_mask(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the", "cat", "sat")), "ensemble")

        answer = await ask(triton, model, strings("text", b"the cat sat", b"cat dog", b""))

        assert array(answer["input_ids"]).tolist() == [[2, 3, 4], [3, 1, 0], [0, 0, 0]]
        assert array(answer["attention_mask"]).tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]

    async def test_no_text_is_no_rows(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the")), "ensemble")

        assert (await ask(triton, model, strings("text", shape=(0,))))["input_ids"].shape == (0, 0)

    async def test_a_long_text_ends_after_256_tokens(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the")), "ensemble")

        answer = await ask(triton, model, strings("text", b"the " * 300))

        assert answer["input_ids"].shape == (1, 256)

    async def test_bytes_that_are_no_text_fail(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the")), "ensemble")

        with pytest.raises(InferenceFailed, match="not UTF-8"):
            await ask(triton, model, strings("text", b"\xff"))

    async def test_token_ids_are_taken_in_the_place_of_text(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the", "cat"), COUNTED), "ensemble")

        answer = await ask(triton, model, strings("text", b"[2, 3, 3]", b"[]", b"[3]"), token_ids=True)

        assert array(answer["input_ids"]).tolist() == [[2, 3, 3], [0, 0, 0], [3, 0, 0]]
        assert array(answer["token_count"]).tolist() == [3, 0, 1]

    async def test_token_ids_are_framed_and_cut_off_as_their_text_is(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the", "cat", "[CLS]", "[SEP]", framed=True), COUNTED), "ensemble")
        long = json.dumps([3] * 300).encode()

        as_text = await ask(triton, model, strings("text", b"the cat", b"the cat", b"cat " * 300))
        as_ids = await ask(triton, model, strings("text", b"[2, 3]", b"[4, 2, 3, 5]", long), token_ids=True)

        assert array(as_ids["input_ids"])[0, :4].tolist() == [4, 2, 3, 5]
        assert array(as_ids["input_ids"]).tolist() == array(as_text["input_ids"]).tolist()
        assert array(as_ids["token_count"]).tolist() == array(as_text["token_count"]).tolist() == [4, 4, 256]

    @pytest.mark.parametrize("text", [b"the cat", b"7", b'["2"]', b"[true]", b"[2", b"[-1]", b"[4]", b"\xff"])
    async def test_what_is_no_token_id_fails(self, triton: str, deploy: Deploy, text: bytes) -> None:
        model = await deploy(pipeline(words("the", "cat")), "ensemble")

        with pytest.raises(InferenceFailed, match="token id"):
            await ask(triton, model, strings("text", text), token_ids=True)


class TestEnsemble:
    async def test_steps_run_one_after_another(self, triton: str, deploy: Deploy) -> None:
        doubled = Signature((TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),))
        twice = graphs.model(
            [helper.make_node("Add", ["x", "x"], ["y"])],
            [graphs.value("x", Datatype.FP32, ["n"])],
            [graphs.value("y", Datatype.FP32, ["n"])],
        )
        model = await deploy(
            archive(
                doubled,
                step("first", "onnxruntime", doubled, {"x": "x"}, {"y": "between"}),
                step("second", "onnxruntime", doubled, {"x": "between"}, {"y": "y"}),
                files={"first/model.onnx": twice, "second/model.onnx": twice},
            ),
            "ensemble",
        )

        answer = await ask(triton, model, tensor("x", np.array([1.5, 2], dtype=np.float32)))

        assert array(answer["y"]).tolist() == [6, 8]

    async def test_a_step_that_is_gone_takes_the_ensemble_with_it(self, triton: str, deploy: Deploy) -> None:
        model = await deploy(pipeline(words("the")), "ensemble")

        await gateway.unload(triton, f"{model}.tokenizer")

        assert not await gateway.is_model_ready(triton, model)
        with pytest.raises(gateway.ModelBroken):
            await ask(triton, model, strings("text", b"the"))

    async def test_a_step_that_has_died_breaks_the_ensemble_and_loading_all_anew_mends_it(
        self, triton: str, deploy: Deploy
    ) -> None:
        artifact = pipeline(words("the"))
        model = await deploy(artifact, "ensemble")
        for process in processes_of(f"{model}.tokenizer"):
            os.kill(process, signal.SIGKILL)

        with pytest.raises(gateway.ModelBroken):
            await ask(triton, model, strings("text", b"the"))

        parts = triton_models(model, "ensemble", artifact, TEXT)
        for part in reversed(parts):
            await gateway.unload(triton, part.name)
        for part in parts:
            await gateway.load(triton, part.name, part.config, part.files)
        assert array((await ask(triton, model, strings("text", b"the")))["input_ids"]).tolist() == [[2]]
