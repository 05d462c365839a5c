"""The tensors of an ONNX model: as large as they declare, inside their files, and none that is made too large.

External data: github.com/onnx/onnx, docs/ExternalData.md.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import graphs
from .graphs import EXPORT_ADVICE, Facts
from .refusal import Refused

# They come to lie in a folder of Triton's, whose Python must not take them for modules.
CODE = (".py", ".pyc", ".so")

MAX_RESULT_BYTES = 256 * 1024**2
MOST_SHARING = 2
PLAIN_NUMBER = re.compile("[0-9]{1,19}")
# Operators that give a tensor as large as they are told to -> which input has its shape, or its repeats.
SHAPED_BY_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
SHAPED_BY_ATTRIBUTE = {"RandomNormal", "RandomUniform"}


def check_sizes(model: onnx.ModelProto, files: Mapping[str, bytes], facts: Facts) -> None:
    """Raises Refused for tensors that are not as large as they declare, lie elsewhere, or would be too large.

    `files`: what external data may be in, by the path in the archive; empty for a model in one file.
    """
    most = MAX_RESULT_BYTES
    parts = _Parts.of(model)
    inside, outside = sum(map(len, files.values())), 0
    for tensor in parts.tensors():
        count = _elements(tensor.dims, tensor.name)
        facts.parameters += count
        size = _check_content(tensor, count, files)
        outside += size if tensor.data_location == onnx.TensorProto.EXTERNAL else 0
    # Two may share their weights; many that do would be held many times over.
    if outside > MOST_SHARING * inside:
        raise Refused(
            f"The model reads {outside} bytes of weights out of files that have {inside}.",
            "Give tensors that share their weights one name, and save the model and its data together again.",
        )
    for sparse in parts.sparse_tensors():
        if _elements(sparse.dims, sparse.values.name) * 16 > most:
            raise _too_large(f"The sparse tensor '{sparse.values.name}'", _elements(sparse.dims, ""), most)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in parts.nodes:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].ints:
            constants[node.output[0]] = numpy_helper.from_array(np.array(node.attribute[0].ints, np.int64))
    for node in parts.nodes:
        size = _declared_bytes(node, constants)
        if size > most:
            raise _too_large(f"The operator {node.op_type} {node.name!r}"[:120], size, most)
    for value in model.graph.input:
        dims = [max(size.dim_value, 1) for size in value.type.tensor_type.shape.dim]
        if _elements(dims, value.name) > most:
            raise _too_large(f"The input '{value.name}'"[:120], _elements(dims, value.name), most)


def external_files(model: onnx.ModelProto) -> set[str]:
    """The paths that its external data names, as they stand."""
    return {
        _location(tensor) for tensor in _Parts.of(model).tensors() if tensor.data_location == onnx.TensorProto.EXTERNAL
    }


def bring_in(model: onnx.ModelProto, files: Mapping[str, bytes]) -> None:
    """Puts the external data, which `check_sizes` has found sound, into the model."""
    for tensor in _Parts.of(model).tensors():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            given = {entry.key: entry.value for entry in tensor.external_data}
            offset = int(given.get("offset") or 0)
            size = (math.prod(tensor.dims) * _bits(tensor.data_type) + 7) // 8
            tensor.raw_data = files[_location(tensor)][offset : offset + size]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")


@dataclass(frozen=True, slots=True)
class _Parts:
    """All of a model's graphs and nodes, with those of subgraphs and functions."""

    graphs: list[onnx.GraphProto]
    nodes: list[onnx.NodeProto]
    attributes: list[onnx.AttributeProto]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "_Parts":
        nodes = list(graphs.nodes(model.graph.node))
        nodes += [node for function in model.functions for node in graphs.nodes(function.node)]
        attributes = [attribute for node in nodes for attribute in node.attribute]
        attributes += [attribute for function in model.functions for attribute in function.attribute_proto]
        inner = [attribute.g for attribute in attributes if attribute.HasField("g")]
        inner += [graph for attribute in attributes for graph in attribute.graphs]
        return cls([model.graph, *inner], nodes, attributes)

    def tensors(self) -> Iterator[onnx.TensorProto]:
        for graph in self.graphs:
            yield from graph.initializer
        for attribute in self.attributes:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for sparse in self.sparse_tensors():
            yield sparse.values
            yield sparse.indices

    def sparse_tensors(self) -> Iterator[onnx.SparseTensorProto]:
        for graph in self.graphs:
            yield from graph.sparse_initializer
        for attribute in self.attributes:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors


def _check_content(tensor: onnx.TensorProto, count: int, files: Mapping[str, bytes]) -> int:
    """How many bytes it takes."""
    name = tensor.name[:100]
    try:
        bits = _bits(tensor.data_type)
    except (KeyError, ValueError):
        raise Refused(f"The tensor {name!r} has the unknown type {tensor.data_type}.", EXPORT_ADVICE) from None
    size = (count * bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, size, files)
    elif tensor.data_type == onnx.TensorProto.STRING:
        if len(tensor.string_data) != count:
            raise _mismatch(name, count, "strings", len(tensor.string_data))
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise _mismatch(name, size, "bytes", len(tensor.raw_data))
    else:
        held = max(
            len(values)
            for values in (
                tensor.float_data,
                tensor.int32_data,
                tensor.int64_data,
                tensor.double_data,
                tensor.uint64_data,
            )
        )
        # Complex numbers take two, types of less than a byte share one.
        if held > 2 * count or (held * 2 < count if bits < 8 else held < count):
            raise _mismatch(name, count, "values", held)
    return size


def _check_external(tensor: onnx.TensorProto, size: int, files: Mapping[str, bytes]) -> None:
    location, name = _location(tensor), tensor.name[:100]
    if not files:
        raise Refused(
            f"The weights of {name!r} are in another file, {location[:100]!r}.",
            "Upload a zip of the .onnx file and its data files; or save it in one file: "
            "`onnx.save(model, 'one.onnx', save_as_external_data=False)`.",
        )
    if location.endswith(CODE):
        raise Refused(
            f"The weights of {name!r} are in {location[:100]!r}, which has the name of code.",
            "Give the data files other names: `onnx.save(…, save_as_external_data=True, location='weights')`.",
        )
    if location not in files or location.endswith(".onnx"):
        raise Refused(
            f"The weights of {name!r} are in {location[:100]!r}, which is not a file beside the model in the zip.",
            "Put the data files into the same folder of the zip as the .onnx file, under the names that it gives.",
        )
    given = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = given.get("offset", "0"), given.get("length", str(size))
    # Whoever loads it reads the same out of it: each key once, and plain numbers.
    if (
        len(given) != len(tensor.external_data)
        or not (PLAIN_NUMBER.fullmatch(offset) and PLAIN_NUMBER.fullmatch(length))
        or int(length) != size
        or int(offset) + size > len(files[location])
    ):
        raise Refused(
            f"The weights of {name!r} ({size} bytes) are not in {location[:100]!r} where the model says.",
            "Save the model and its data together again: `onnx.save(model, path, save_as_external_data=True)`.",
        )


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _elements(dims: Sequence[int], name: str) -> int:
    if any(size < 0 for size in dims):
        raise Refused(f"The tensor {name[:100]!r} has a negative size.", EXPORT_ADVICE)
    return math.prod(dims)


def _bits(data_type: int) -> int:
    if data_type == onnx.TensorProto.STRING:
        return 0
    # Types of less than a byte are packed.
    packed = re.fullmatch(r"(?:U?INT|FLOAT)([24])(?:E\dM\d)?", onnx.TensorProto.DataType.Name(data_type))
    return int(packed[1]) if packed else int(helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


def _declared_bytes(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> int:
    """At least so many does the node's result have, as far as constants tell; 0 when they do not."""

    def values(position: int) -> list[int]:
        tensor = constants.get(node.input[position]) if position < len(node.input) else None
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL or math.prod(tensor.dims) > 64:
            return []
        try:
            return [max(int(value), 0) for value in numpy_helper.to_array(tensor).ravel()]
        except (TypeError, ValueError, OverflowError):
            return []

    if node.op_type in SHAPED_BY_ATTRIBUTE:
        shape = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "shape"), [])
        return 4 * math.prod(max(size, 0) for size in shape) if shape else 0
    if node.op_type == "Range":
        bounds = [values(position) for position in range(3)]
        if all(len(each) == 1 for each in bounds):
            (start,), (limit,), (delta,) = bounds
            return 4 * max(0, (limit - start) // delta) if delta else 0
        return 0
    if node.op_type == "OneHot":
        depth = values(1)
        return 4 * depth[0] if depth else 0
    if node.op_type == "Pad":
        return 4 * max(values(1), default=0)
    shape = values(SHAPED_BY_INPUT[node.op_type]) if node.op_type in SHAPED_BY_INPUT else []
    return 4 * math.prod(shape) if shape else 0


def _mismatch(name: str, declared: int, what: str, held: int) -> Refused:
    return Refused(
        f"The tensor {name!r} declares {declared} {what} and has {held}.",
        "The file is damaged or was edited: export the model again.",
    )


def _too_large(what: str, size: int, most: int) -> Refused:
    return Refused(
        f"{what} makes {size} bytes, and a tensor may have {most}.",
        "Make it from an input's size, or smaller: a model that needs this much for one tensor cannot be served here.",
    )
