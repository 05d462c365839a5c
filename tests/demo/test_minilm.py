"""The sentence embedder, made from the weights of a package each time it is needed."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from demo.build import minilm

# Each sentence as WordPiece has it, [CLS] and [SEP] included.
DOG = [101, 1037, 3899, 3216, 2083, 1996, 2380, 1012, 102]  # A dog runs through the park.
PUPPY = [101, 1037, 17022, 2003, 2770, 1999, 1037, 3871, 1012, 102]  # A puppy is running in a garden.
BANK = [101, 1996, 2430, 2924, 2992, 3037, 6165, 1012, 102]  # The central bank raised interest rates.


@pytest.fixture(scope="module")
def network(minilm_archive: Path) -> bytes:
    return zipfile.ZipFile(minilm_archive).read("network/model.onnx")


def embed(network: bytes, *sentences: Sequence[int]) -> np.ndarray:
    longest = max(map(len, sentences))
    ids = np.array([[*sentence, *[0] * (longest - len(sentence))] for sentence in sentences])
    mask = np.array([[1] * len(sentence) + [0] * (longest - len(sentence)) for sentence in sentences])
    session = onnxruntime.InferenceSession(network)
    (embedding,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    return np.asarray(embedding)


def test_equal_weights_make_equal_bytes(minilm_archive: Path, tmp_path: Path) -> None:
    minilm.build(tmp_path / "again.zip")
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (minilm_archive, tmp_path / "again.zip"))
    assert first == second


def test_the_archive_holds_every_file_that_its_steps_name(minilm_archive: Path) -> None:
    with zipfile.ZipFile(minilm_archive) as packed:
        ensemble = json.loads(packed.read("ensemble.json"))
        files = {file for step in ensemble["steps"] for file in step["files"].values()}
        assert set(packed.namelist()) == files | {"ensemble.json"}


def test_every_step_takes_what_the_pipeline_has_by_then(minilm_archive: Path) -> None:
    ensemble = json.loads(zipfile.ZipFile(minilm_archive).read("ensemble.json"))
    known = {tensor["name"] for tensor in ensemble["inputs"]}
    for step in ensemble["steps"]:
        assert set(step["input_map"]) == {tensor["name"] for tensor in step["inputs"]}
        assert set(step["output_map"]) == {tensor["name"] for tensor in step["outputs"]}
        assert set(step["input_map"].values()) <= known
        known |= set(step["output_map"].values())
    assert {tensor["name"] for tensor in ensemble["outputs"]} <= known


def test_the_network_is_opset_17_and_ir_8_and_passes_the_checker(network: bytes) -> None:
    model = onnx.load(BytesIO(network))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]


def test_embeddings_have_384_numbers_and_length_1(network: bytes) -> None:
    embedding = embed(network, DOG, PUPPY)
    assert embedding.shape == (2, 384)
    assert np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)


def test_sentences_that_mean_the_same_are_nearer_than_those_that_do_not(network: bytes) -> None:
    dog, puppy, bank = embed(network, DOG, PUPPY, BANK)
    assert dog @ puppy > dog @ bank + 0.3


def test_padding_does_not_change_an_embedding(network: bytes) -> None:
    assert np.allclose(embed(network, DOG)[0], embed(network, DOG, [*PUPPY, *PUPPY])[0], atol=1e-6)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="requirements-demo"):
        minilm.build(tmp_path / "minilm.zip")
