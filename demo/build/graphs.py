"""ONNX models as this catalogue publishes them: opset 17, IR version 8, checked, and free of build-time noise."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators, in every build of it

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING
BATCH = "batch"


def tensor(name: str, element_type: int, *shape: int | str) -> ValueInfoProto:
    """A graph input or output; a named dimension is a dynamic one."""
    return helper.make_tensor_value_info(name, element_type, list(shape))


def constants(**arrays: np.ndarray) -> list[TensorProto]:
    return [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]


def model(
    name: str,
    nodes: Sequence[NodeProto],
    *,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> onnx.ModelProto:
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="demo.build")


def serialized(built: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(built, full_check=True)
    content: bytes = built.SerializeToString(deterministic=True)
    return content


def save(built: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(serialized(built))
