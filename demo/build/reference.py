"""A Llama in numpy, for whoever wants to know whether its graph is one. Weights and shape as in `llama`."""

from collections.abc import Mapping, Sequence

import numpy as np

from demo.build.llama import Shape


def logits(shape: Shape, weights: Mapping[str, np.ndarray], tokens: Sequence[int]) -> np.ndarray:
    """[token, vocabulary]: what follows each token."""
    count, size, pairs = len(tokens), shape.head_size, shape.key_value_heads
    hidden = weights["embedding"][list(tokens)]
    future = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(shape.layers):
        part = {name: weights[f"{layer}.{name}"] for name in ("query_key_value", "attention_output", "gate_up", "down")}
        heads = _norm(shape, hidden, weights[f"{layer}.attention_norm"]) @ part["query_key_value"].T
        queries, keys, values = np.split(heads.reshape(count, -1, size), [shape.heads, shape.heads + pairs], axis=1)
        keys, values = (each.repeat(shape.heads // pairs, axis=1) for each in (_rotated(shape, keys), values))
        scores = np.einsum("thd,shd->hts", _rotated(shape, queries), keys) / np.sqrt(size) + future
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended = np.einsum("hts,shd->thd", shares, values).reshape(count, -1)
        hidden = hidden + attended @ part["attention_output"].T
        both = _norm(shape, hidden, weights[f"{layer}.feed_forward_norm"]) @ part["gate_up"].T
        gate, up = np.split(both, 2, axis=-1)
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ part["down"].T
    return np.asarray(_norm(shape, hidden, weights["norm"]) @ weights["embedding"].T)


def _norm(shape: Shape, hidden: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + shape.epsilon) * weight)


def _rotated(shape: Shape, heads: np.ndarray) -> np.ndarray:
    """[token, head, feature]: pairs of features, half a head apart, turned by an angle that grows with the position."""
    half = shape.head_size // 2
    frequencies = shape.rotary_base ** (-np.arange(half) / half)
    angles = (np.arange(len(heads))[:, None] * frequencies)[:, None]
    turned = (heads[..., :half] + 1j * heads[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1).astype(heads.dtype)
