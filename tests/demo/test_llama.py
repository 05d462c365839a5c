"""The graph of a Llama, against the same in numpy."""

import io
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from demo.build import babbler, llama, reference
from tests.inference import generators

SHAPE = babbler.SHAPE
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def network() -> bytes:
    return zipfile.ZipFile(io.BytesIO(generators.archive())).read("generator/model.onnx")


def weights() -> dict[str, Array]:
    """As the graph has them, after they were made integers."""
    found = {}
    for name, weight in babbler._weights().items():
        if weight.ndim == 1:
            found[name] = weight.astype(np.float64)
            continue
        integers, scales = llama.quantized(weight, llama.OUTLIERS_BLOCK if name.endswith(".down") else llama.BLOCK)
        found[name] = ((integers.astype(np.float64) - 128) * scales[..., None]).reshape(weight.shape)
    return found


def test_its_logits_are_those_of_a_llama_but_for_the_rounding_of_activations(network: bytes) -> None:
    session = onnxruntime.InferenceSession(network)
    tokens = list(np.random.default_rng(2).integers(3, SHAPE.vocabulary, 24))
    empty = np.zeros((1, SHAPE.key_value_heads, SHAPE.context_length, SHAPE.head_size), np.float32)
    feeds = {each.name: empty for each in session.get_inputs() if each.name.startswith("past")}
    feeds |= {"input_ids": np.array([tokens]), "seqlens_k": np.array([len(tokens) - 1], np.int32)}
    feeds["total_sequence_length"] = np.array(len(tokens), np.int32)

    [[[got]]] = session.run(["logits"], feeds)

    expected = reference.logits(SHAPE, weights(), tokens)[-1]
    assert np.corrcoef(got, expected)[0, 1] > 0.999


def test_equal_seeds_make_equal_bytes(network: bytes) -> None:
    generators.archive.cache_clear()
    assert zipfile.ZipFile(io.BytesIO(generators.archive())).read("generator/model.onnx") == network


def test_it_is_small_and_for_the_runtimes_of_triton_images(network: bytes) -> None:
    assert len(generators.archive()) < 3_000_000
    assert onnx.load_from_string(network).ir_version <= 10


@pytest.mark.parametrize("block", [16, 32])
def test_integers_are_within_half_a_step_of_the_weights(block: int) -> None:
    weight = np.random.default_rng(5).normal(size=(3, 64)).astype(np.float32)
    weight[1, :block] = 0
    integers, scales = llama.quantized(weight, block)
    restored = (integers.astype(np.float32) - 128) * scales[..., None]
    assert (np.abs(restored - weight.reshape(integers.shape)) <= scales[..., None] * 0.5001).all()
