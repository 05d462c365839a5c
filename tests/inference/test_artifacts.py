"""What publishers upload, read for its signature."""

import io
import json
import zipfile
from typing import Any

import pytest
from onnx import TensorProto, helper

from inference.ensembles import is_decoupled, read_ensemble
from inference.formats import read_signature
from inference.repository import triton_models
from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.errors import ValidationProblem
from tests.inference import generators, graphs
from tests.inference.ensembles import TEXT, archive, described, pipeline, step, words

MAPS = {"text": "text"}, {"input_ids": "input_ids", "attention_mask": "attention_mask"}
TOKENS = b'{"model": {}}'
TOKENIZER = {"tokenizer/tokenizer.json": b"{}"}


class TestOnnxSignature:
    def test_symbolic_dimensions_are_dynamic_and_a_scalar_has_one_element(self) -> None:
        artifact = graphs.model(
            [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["k"], ["l"])],
            [graphs.value("x", Datatype.FP16, ["batch", 3, None]), graphs.value("k", Datatype.BYTES, [])],
            [graphs.value("y", Datatype.FP16, ["batch", 3, None]), graphs.value("l", Datatype.BYTES, [])],
        )

        assert read_signature(artifact) == Signature(
            (TensorSpec("x", Datatype.FP16, (-1, 3, -1)), TensorSpec("k", Datatype.BYTES, (1,))),
            (TensorSpec("y", Datatype.FP16, (-1, 3, -1)), TensorSpec("l", Datatype.BYTES, (1,))),
        )

    def test_every_datatype_is_known(self) -> None:
        signature = read_signature(graphs.identity(list(Datatype)))

        assert [spec.datatype for spec in signature.inputs] == list(Datatype)

    def test_weights_listed_as_inputs_are_not_asked_for(self) -> None:
        weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0])
        values = [graphs.value(name, Datatype.FP32, [1]) for name in ("x", "w", "y")]
        artifact = graphs.model([helper.make_node("Mul", ["x", "w"], ["y"])], values[:2], values[2:], [weight])

        assert [spec.name for spec in read_signature(artifact).inputs] == ["x"]

    @pytest.mark.parametrize(("symbols", "batched"), [(("n", "n"), True), (("n", "m"), False), ((None, "n"), False)])
    def test_leading_dimensions_are_one_where_the_graph_says_so(
        self, symbols: tuple[str | None, ...], batched: bool
    ) -> None:
        inputs = [graphs.value(name, Datatype.FP32, [symbol]) for name, symbol in zip("ab", symbols, strict=True)]
        outputs = [graphs.value("c", Datatype.FP32, [None])]
        artifact = graphs.model([helper.make_node("Concat", ["a", "b"], ["c"], axis=0)], inputs, outputs)

        assert read_signature(artifact).batched is batched

    @pytest.mark.parametrize(
        "artifact",
        [
            b"",
            b"garbage",
            graphs.model([], [], [helper.make_tensor_value_info("y", TensorProto.COMPLEX64, [1])]),
            graphs.model([], [], [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])]),
            graphs.model([], [], [graphs.value("y", Datatype.FP32, None)]),
        ],
        ids=["empty", "garbage", "complex", "sequence", "no rank"],
    )
    def test_what_cannot_be_served_is_refused(self, artifact: bytes) -> None:
        with pytest.raises(ValidationProblem) as caught:
            read_signature(artifact)
        assert caught.value.path == "input.artifact"


class TestEnsemble:
    def test_its_signature_is_what_it_says(self) -> None:
        assert read_signature(pipeline(words("the")), "ensemble") == TEXT

    def test_its_steps_load_before_itself_under_names_of_their_own(self) -> None:
        models = triton_models("018f-v1", "ensemble", pipeline(TOKENS), TEXT)

        assert [model.name for model in models] == ["018f-v1.tokenizer", "018f-v1"]
        assert models[0].files == {"1/tokenizer.json": TOKENS}
        assert models[0].config["instance_group"] == [{"kind": "KIND_AUTO", "count": 1}]
        assert models[1].config["ensemble_scheduling"]["step"] == [
            {
                "model_name": "018f-v1.tokenizer",
                "model_version": -1,
                "input_map": {"text": "text"},
                "output_map": {"input_ids": "input_ids", "attention_mask": "attention_mask"},
            }
        ]

    def test_all_its_models_bear_the_number_of_the_load(self) -> None:
        models = triton_models("018f-v1", "ensemble", pipeline(TOKENS), TEXT, load=7)

        assert [set(model.files) for model in models] == [{"7/tokenizer.json"}, {"7/ensemble"}]

    def test_one_that_answers_many_times_is_a_single_step_and_loads_without_a_pipeline(self) -> None:
        artifact = generators.archive()
        [model] = triton_models("018f-v1", "ensemble", artifact, read_signature(artifact, "ensemble"), load=7)

        assert is_decoupled(artifact, "ensemble")
        assert (model.name, model.config["backend"]) == ("018f-v1", "generator")
        assert model.config["model_transaction_policy"] == {"decoupled": True}
        assert model.config["instance_group"] == [{"kind": "KIND_CPU", "count": 1}]
        assert set(model.files) == {"7/model.onnx", "7/tokenizer.json", "7/generation.json"}

    def test_others_answer_once(self) -> None:
        models = triton_models("018f-v1", "ensemble", pipeline(TOKENS), TEXT)

        assert not is_decoupled(pipeline(TOKENS), "ensemble")
        assert not is_decoupled(graphs.add(), "onnx")
        assert models[0].config["model_transaction_policy"] == {"decoupled": False}

    @pytest.mark.parametrize("flaw", ["another step", "another name", "another shape"])
    def test_one_that_answers_many_times_has_nothing_around_it(self, flaw: str) -> None:
        with zipfile.ZipFile(io.BytesIO(generators.archive())) as packed:
            described = json.loads(packed.read("ensemble.json"))
            files = {name: packed.read(name) for name in packed.namelist() if name != "ensemble.json"}
        generator = described["steps"][0]
        if flaw == "another step":
            described["steps"].append({**generator, "name": "second"})
            files |= {name.replace("generator/", "second/"): content for name, content in files.items()}
            described["steps"][1]["files"] = {file: f"second/{file}" for file in generator["files"]}
        elif flaw == "another name":
            described["inputs"] = [{**described["inputs"][0], "name": "prompt"}]
            generator["input_map"] = {"text_input": "prompt"}
        else:
            described["inputs"] = [{**described["inputs"][0], "shape": [-1]}]
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as zipped:
            for name, content in {"ensemble.json": json.dumps(described), **files}.items():
                zipped.writestr(name, content)

        with pytest.raises(ValidationProblem, match="a step with the backend generator is its only one"):
            read_ensemble(written.getvalue())

    @pytest.mark.parametrize(
        "changes",
        [
            {"backend": "python", "files": {"model.py": "tokenizer/model.py"}},
            {"files": {"tokenizer.json": "tokenizer/tokenizer.json", "model.py": "tokenizer/tokenizer.json"}},
            {"files": {"../tokenizer.json": "tokenizer/tokenizer.json"}},
            {"files": {"tokenizer.json": "tokenizer/elsewhere.json"}},
            {"files": {"tokenizer.json": "network/tokenizer.json"}},
            {"files": {"tokenizer.json": 7}},
            {"files": None},
            {"name": "../up"},
            {"name": ""},
            {"name": 7},
            {"backend": ["tokenizer"]},
            {"inputs": [{"name": "text", "datatype": "STRING", "shape": [-1]}]},
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [-2]}]},
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": "1"}]},
            {"inputs": "text"},
            {"input_map": {}},
            {"input_map": {"text": "nowhere"}},
            {"input_map": {"text": ["text"]}},
            {"output_map": {"tokens": "input_ids"}},
            {"output_map": {"input_ids": "input_ids"}},
        ],
        ids=json.dumps,
    )
    def test_a_step_that_does_not_hold_together_is_refused(self, changes: dict[str, Any]) -> None:
        """A backend is code, so that a publisher has no other than these, and only their files."""
        broken = step("tokenizer", "tokenizer", TEXT, *MAPS) | changes

        with pytest.raises(ValidationProblem) as caught:
            read_ensemble(archive(TEXT, broken, files=TOKENIZER | {"tokenizer/model.py": b""}))
        assert caught.value.path == "input.artifact"

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"ensemble.json": b"{"},
            {"ensemble.json": b"[]"},
            {"ensemble.json": b"null"},
            {"ensemble.json": b"\xff"},
            {"ensemble.json": b'{"steps": null}'},
            {"ensemble.json": json.dumps({**described(TEXT), "steps": []}).encode()},
            {"ensemble.json": json.dumps({**described(TEXT), "steps": {}}).encode()},
            {"ensemble.json": b"[" * 100_000},
        ],
        ids=lambda members: str(members)[:60],
    )
    def test_an_archive_without_steps_is_refused(self, members: dict[str, bytes]) -> None:
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as zipped:
            for path, content in members.items():
                zipped.writestr(path, content)

        with pytest.raises(ValidationProblem):
            read_ensemble(written.getvalue())

    def test_what_is_no_zip_and_what_is_cut_short_are_refused(self) -> None:
        whole = pipeline(TOKENS)

        for broken in (b"", b"garbage", whole[:-30], whole[:40], whole.replace(b"{}", b"[]")):
            with pytest.raises(ValidationProblem):
                read_ensemble(broken)

    def test_two_steps_of_one_name_and_more_than_sixteen_are_refused(self) -> None:
        one = step("tokenizer", "tokenizer", TEXT, *MAPS)

        for steps in ([one, one], [{**one, "name": f"step_{number}"} for number in range(17)]):
            with pytest.raises(ValidationProblem):
                read_ensemble(archive(TEXT, *steps, files=TOKENIZER))
