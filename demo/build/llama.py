"""A decoder of the Llama family as an ONNX graph for Triton's backend `generator` (inference/backends/generator).

Architecture (Touvron et al., 2023): RMSNorm before each part, rotary positions (Su et al., 2021), grouped-query
attention (Ainslie et al., 2023), SwiGLU (Shazeer, 2020), one matrix for embedding and output. Weights are 8-bit
integers with a scale for each 32 or 16 of a row, as in GGML's Q8_0; so are activations while they are multiplied. That
keeps each row of a batch apart from the others, which a scale for a whole tensor (DynamicQuantizeLinear) would not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from demo.build import graphs

BLOCK = 32
# Of what goes into the last matrix of a layer, a few numbers are far larger than the rest: fewer share their scale.
OUTLIERS_BLOCK = 16
INT32 = TensorProto.INT32


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context_length: int
    rotary_base: float
    epsilon: float


def quantized(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """[n, k] as bytes [n, k/block, block], 128 for nought, and scales FP32 [n, k/block]."""
    blocks = weight.astype(np.float32).reshape(len(weight), -1, block)
    scales = np.abs(blocks).max(axis=-1) / 127
    steps = np.divide(blocks, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] != 0)
    return (np.rint(steps) + 128).astype(np.uint8), scales


def network(shape: Shape, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """`weights`: matrices are [outputs, inputs], and rotary halves lie one after the other.

    "embedding", "norm", and for each layer "N.attention_norm", "N.query_key_value", "N.attention_output",
    "N.feed_forward_norm", "N.gate_up" and "N.down".
    """
    graph = _Graph(shape, weights)
    hidden = graph.embedding("input_ids")
    for layer in range(shape.layers):
        hidden = graph.layer(hidden, layer)
    graph.logits(hidden)
    cache = (graphs.BATCH, shape.key_value_heads, "context", shape.head_size)
    pairs = [f"{layer}.{kind}" for layer in range(shape.layers) for kind in ("key", "value")]
    return graphs.model(
        "llama",
        graph.nodes,
        inputs=[
            graphs.tensor("input_ids", graphs.INT64, graphs.BATCH, "tokens"),
            graphs.tensor("seqlens_k", INT32, graphs.BATCH),
            graphs.tensor("total_sequence_length", INT32),
            *(graphs.tensor(f"past_key_values.{pair}", graphs.FLOAT, *cache) for pair in pairs),
        ],
        outputs=[
            graphs.tensor("logits", graphs.FLOAT, graphs.BATCH, 1, shape.vocabulary),
            *(graphs.tensor(f"present.{pair}", graphs.FLOAT, *cache) for pair in pairs),
        ],
        initializers=graphs.constants(**graph.constants),
    )


class _Graph:
    """Nodes and constants in the order in which they are written; methods return the name of their output."""

    def __init__(self, shape: Shape, weights: Mapping[str, np.ndarray]) -> None:
        self.shape = shape
        self.weights = weights
        self.nodes: list[NodeProto] = []
        frequencies = shape.rotary_base ** (-np.arange(0, shape.head_size, 2) / shape.head_size)
        angles = np.arange(shape.context_length)[:, None] * frequencies
        embedding, scales = quantized(weights["embedding"])
        self.constants: dict[str, np.ndarray] = {
            "rotary_cosines": np.cos(angles).astype(np.float32),
            "rotary_sines": np.sin(angles).astype(np.float32),
            "epsilon": np.array(shape.epsilon, np.float32),
            "two": np.array(2, np.float32),
            "nought": np.array(128, np.float32),
            "last_axis": np.array([-1]),
            "embedding": embedding,
            "embedding.scales": scales,
            "as_hidden": np.array([0, 0, shape.hidden]),
            "last": np.array([-1]),
            "end": np.array([2**31 - 1]),
            "token_axis": np.array([1]),
        }

    def add(self, operator: str, *inputs: str, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        results = outputs or (f"{operator.lower()}_{len(self.nodes)}",)
        self.nodes.append(helper.make_node(operator, list(inputs), list(results), **attributes))
        return results[0]

    def dense(self, hidden: str, name: str, *, block: int = BLOCK, output: str | None = None) -> str:
        if name not in self.constants:
            self.constants[name], self.constants[f"{name}.scales"] = quantized(self.weights[name], block)
        rows, blocks, _ = self.constants[name].shape
        return self.add(
            "MatMulNBits",
            *(hidden, name, f"{name}.scales"),
            outputs=(output,) if output else (),
            domain=graphs.MICROSOFT,
            N=rows,
            K=blocks * block,
            bits=8,
            block_size=block,
            accuracy_level=4,
        )

    def norm(self, hidden: str, name: str) -> str:
        """x / sqrt(mean(x²) + ε) · weight (Zhang and Sennrich, 2019). onnxruntime makes one operator of it."""
        self.constants[name] = self.weights[name].astype(np.float32)
        mean = self.add("ReduceMean", self.add("Pow", hidden, "two"), axes=[-1])
        root = self.add("Sqrt", self.add("Add", mean, "epsilon"))
        return self.add("Mul", self.add("Div", hidden, root), name)

    def embedding(self, tokens: str) -> str:
        integers = self.add("Cast", self.add("Gather", "embedding", tokens), to=graphs.FLOAT)
        scales = self.add("Unsqueeze", self.add("Gather", "embedding.scales", tokens), "last_axis")
        return self.add("Reshape", self.add("Mul", self.add("Sub", integers, "nought"), scales), "as_hidden")

    def layer(self, hidden: str, layer: int) -> str:
        past, present = (
            tuple(f"{prefix}.{layer}.{kind}" for kind in ("key", "value")) for prefix in ("past_key_values", "present")
        )
        attended = self.add(
            "GroupQueryAttention",
            *(self.dense(self.norm(hidden, f"{layer}.attention_norm"), f"{layer}.query_key_value"), "", "", *past),
            *("seqlens_k", "total_sequence_length", "rotary_cosines", "rotary_sines"),
            outputs=(f"attention_{layer}", *present),
            domain=graphs.MICROSOFT,
            num_heads=self.shape.heads,
            kv_num_heads=self.shape.key_value_heads,
            do_rotary=1,
        )
        hidden = self.add("Add", hidden, self.dense(attended, f"{layer}.attention_output"))
        both = self.dense(self.norm(hidden, f"{layer}.feed_forward_norm"), f"{layer}.gate_up")
        gate, up = f"gate_{layer}", f"up_{layer}"
        self.constants.setdefault("halves", np.array([self.shape.feed_forward] * 2))
        self.add("Split", both, "halves", outputs=(gate, up), axis=-1)
        activated = self.add("Mul", gate, self.add("Sigmoid", gate))
        down = self.dense(self.add("Mul", activated, up), f"{layer}.down", block=OUTLIERS_BLOCK)
        return self.add("Add", hidden, down)

    def logits(self, hidden: str) -> str:
        """Of the last position alone."""
        last = self.add("Slice", hidden, "last", "end", "token_axis")
        return self.dense(self.norm(last, "norm"), "embedding", output="logits")
