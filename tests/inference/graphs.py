"""Small ONNX models (opset 17, IR 8) to run on a real Triton, and what onnxruntime itself says of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from inference.tensors import Datatype

TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.BYTES: TensorProto.STRING,
}

Shape = Sequence[int | str] | None


def value(name: str, datatype: Datatype, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[datatype], shape)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Sequence[TensorProto] = (),
) -> bytes:
    graph: GraphProto = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    serialized: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return serialized


def identity(datatypes: Sequence[Datatype], shape: Shape = ("n", 2)) -> bytes:
    """For each datatype an input `in_<datatype>` that comes out again as `out_<datatype>`."""
    return model(
        [helper.make_node("Identity", [f"in_{each}"], [f"out_{each}"]) for each in datatypes],
        [value(f"in_{each}", each, shape) for each in datatypes],
        [value(f"out_{each}", each, shape) for each in datatypes],
    )


def add() -> bytes:
    return model(
        [helper.make_node("Add", ["A", "B"], ["SUM"])],
        [value(name, Datatype.FP32, ["n"]) for name in "AB"],
        [value("SUM", Datatype.FP32, ["n"])],
    )


def lookup() -> bytes:
    """Fails for an index outside 0, 1, 2."""
    return model(
        [helper.make_node("Gather", ["table", "index"], ["found"])],
        [value("index", Datatype.INT64, ["n"])],
        [value("found", Datatype.FP32, ["n"])],
        [numpy_helper.from_array(np.array([1, 2, 3], dtype=np.float32), "table")],
    )


def masked_sum() -> bytes:
    """Sums each row's input_ids where attention_mask is 1."""
    return model(
        [
            helper.make_node("Mul", ["input_ids", "attention_mask"], ["seen"]),
            helper.make_node("ReduceSum", ["seen", "along"], ["sums"], keepdims=0),
        ],
        [value(name, Datatype.INT64, ["n", "longest"]) for name in ("input_ids", "attention_mask")],
        [value("sums", Datatype.INT64, ["n"])],
        [numpy_helper.from_array(np.array([1]), "along")],
    )


def mixture() -> bytes:
    """scores = softmax(x W + b); rows = the number of rows, which does not carry the leading dimension."""
    random = np.random.default_rng(7)
    weights = [
        numpy_helper.from_array(random.normal(size=(33, 10)).astype(np.float32), "W"),
        numpy_helper.from_array(random.normal(size=10).astype(np.float32), "b"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
    ]
    return model(
        nodes,
        [value("x", Datatype.FP32, ["n", 33])],
        [value("scores", Datatype.FP32, ["n", 10]), value("rows", Datatype.INT64, [1])],
        weights,
    )


def countdown() -> bytes:
    """Multiplies a 256 x 256 matrix `turns` times: as slow as one likes."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("MatMul", ["matrix", "matrix"], ["square"]),
            helper.make_node("Clip", ["square", "least", "most"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [256, 256]),
        ],
    )
    weights = [
        numpy_helper.from_array(np.full((256, 256), 0.5, dtype=np.float32), "start"),
        numpy_helper.from_array(np.array(0, dtype=np.float32), "least"),
        numpy_helper.from_array(np.array(1, dtype=np.float32), "most"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array([0], dtype=np.int64), "first"),
    ]
    nodes = [
        helper.make_node("Squeeze", ["turns"], ["trips"]),
        helper.make_node("Loop", ["trips", "true", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["mean"], axes=[0, 1], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "first"], ["result"]),
    ]
    return model(nodes, [value("turns", Datatype.INT64, [1])], [value("result", Datatype.FP32, [1])], weights)


def endless() -> bytes:
    """Takes any `x`, and never answers."""
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_again"]) for name in ("going", "x")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("going_again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_again", TensorProto.FLOAT, ["n"]),
        ],
    )
    nodes = [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)]
    true = numpy_helper.from_array(np.array(True), "true")
    return model(nodes, [value("x", Datatype.FP32, ["n"])], [value("y", Datatype.FP32, ["n"])], [true])


def unlucky() -> bytes:
    """Knows no index below 5, which nobody would invent."""
    weights = [
        numpy_helper.from_array(np.arange(6, dtype=np.float32), "table"),
        numpy_helper.from_array(np.array([-5], dtype=np.int64), "least"),
        numpy_helper.from_array(np.array([99], dtype=np.int64), "beyond"),
    ]
    nodes = [
        helper.make_node("Add", ["index", "least"], ["below"]),
        helper.make_node("Min", ["below", "zero"], ["missing"]),
        helper.make_node("Mul", ["missing", "beyond"], ["error"]),
        helper.make_node("Add", ["index", "error"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["found"]),
    ]
    weights.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"))
    return model(nodes, [value("index", Datatype.INT64, ["n"])], [value("found", Datatype.FP32, ["n"])], weights)


def scaled() -> bytes:
    """scores = softmax(3 x), row by row."""
    three = numpy_helper.from_array(np.array([3], dtype=np.float32), "three")
    nodes = [helper.make_node("Mul", ["x", "three"], ["more"]), helper.make_node("Softmax", ["more"], ["scores"])]
    return model(nodes, [value("x", Datatype.FP32, ["n", 4])], [value("scores", Datatype.FP32, ["n", 4])], [three])


def centred() -> bytes:
    """What each row is above the mean of all rows: no row's answer is its own."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
    ]
    return model(nodes, [value("x", Datatype.FP32, ["n", 4])], [value("centred", Datatype.FP32, ["n", 4])])


def run(artifact: bytes, feeds: dict[str, Any], outputs: Sequence[str] | None = None) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    answer: list[NDArray[Any]] = session.run(outputs, feeds)
    return answer
