"""The graph of a Llama, against the same in a few lines of numpy."""

import io
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from demo.build import babbler, llama
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


def norm(hidden: Array) -> Array:
    return np.asarray(hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + SHAPE.epsilon))


def rotated(heads: Array) -> Array:
    """[token, head, feature]: pairs of features, half a head apart, turned by an angle that grows with the position."""
    frequencies = SHAPE.rotary_base ** (-np.arange(0, SHAPE.head_size, 2) / SHAPE.head_size)
    angles = (np.arange(len(heads))[:, None] * frequencies)[:, None]
    turned = (heads[..., : SHAPE.head_size // 2] + 1j * heads[..., SHAPE.head_size // 2 :]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def logits(tokens: list[int]) -> Array:
    """Of the last token."""
    w, count, size = weights(), len(tokens), SHAPE.head_size
    hidden = w["embedding"][tokens]
    group = SHAPE.heads // SHAPE.key_value_heads
    future = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(SHAPE.layers):
        heads = (norm(hidden) @ w[f"{layer}.query_key_value"].T).reshape(count, -1, size)
        queries, keys, values = np.split(heads, [SHAPE.heads, SHAPE.heads + SHAPE.key_value_heads], axis=1)
        keys, values = (each.repeat(group, axis=1) for each in (rotated(keys), values))
        scores = np.einsum("thd,shd->hts", rotated(queries), keys) / np.sqrt(size) + future
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended = np.einsum("hts,shd->thd", shares, values).reshape(count, -1)
        hidden = hidden + attended @ w[f"{layer}.attention_output"].T
        gate, up = np.split(norm(hidden) @ w[f"{layer}.gate_up"].T, 2, axis=-1)
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ w[f"{layer}.down"].T
    return np.asarray(norm(hidden)[-1] @ w["embedding"].T)


def test_its_logits_are_those_of_a_llama_but_for_the_rounding_of_activations(network: bytes) -> None:
    session = onnxruntime.InferenceSession(network)
    tokens = list(np.random.default_rng(2).integers(3, SHAPE.vocabulary, 24))
    empty = np.zeros((1, SHAPE.key_value_heads, SHAPE.context_length, SHAPE.head_size), np.float32)
    feeds = {each.name: empty for each in session.get_inputs() if each.name.startswith("past")}
    feeds |= {"input_ids": np.array([tokens]), "seqlens_k": np.array([len(tokens) - 1], np.int32)}
    feeds["total_sequence_length"] = np.array(len(tokens), np.int32)

    [[[got]]] = session.run(["logits"], feeds)

    expected = logits(tokens)
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
