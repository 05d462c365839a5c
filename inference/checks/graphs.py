"""An ONNX model read and judged before anything runs: versions, operators, files, and the sizes that it declares.

ONNX IR specification: github.com/onnx/onnx, docs/IR.md.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import checker, defs, helper, numpy_helper

from . import wire
from .refusal import Refused

# What the servers' onnxruntime is known to run.
OLDEST_IR, NEWEST_IR = 3, 10
NEWEST_OPSETS = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5}
OLDEST_OPSET = 1
# Not of ONNX, and all the same what skl2onnx makes of every text vectoriser: onnxruntime has it on every platform, and
# its expressions (RE2) run in linear time.
WELCOME = {("com.microsoft", "Tokenizer")}

# They come to lie in a folder of Triton's, whose Python must not take them for modules.
CODE = (".py", ".pyc", ".so")

MAX_NESTING = 6
MAX_NODES = 100_000
MAX_FUNCTIONS = 512
MAX_RESULT_BYTES = 256 * 1024**2

EXPORT_ADVICE = (
    "Export it with an older target: `torch.onnx.export(…, opset_version=17)`, `to_onnx(…, target_opset=17)` or "
    "`python -m tf2onnx.convert … --opset 17`; an existing file: `onnx.version_converter.convert_version(model, 17)` "
    "with `model.ir_version = 8`."
)
# Operators that give a tensor as large as they are told to -> which input has its shape, or its repeats.
SHAPED_BY_INPUT = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
SHAPED_BY_ATTRIBUTE = {"RandomNormal", "RandomUniform"}


@dataclass(slots=True)
class Facts:
    """What is counted on the way, for the publisher to read."""

    operators: Counter[str] = field(default_factory=Counter)
    parameters: int = 0


def parse(artifact: bytes) -> onnx.ModelProto:
    """Raises Refused for what is not one ONNX model, or not one that may be read."""
    wire.measure(memoryview(artifact), onnx.ModelProto.DESCRIPTOR)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(artifact)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's own error class is not part of its interface
        raise wire.DAMAGED from error
    if not model.HasField("graph") or not model.ir_version:
        raise wire.DAMAGED
    if not OLDEST_IR <= model.ir_version <= NEWEST_IR:
        raise Refused(
            f"The model has IR version {model.ir_version}, and versions {OLDEST_IR} to {NEWEST_IR} run here.",
            EXPORT_ADVICE,
        )
    if model.training_info:
        raise Refused("The model brings its training along (training_info).", "Export it for inference.")
    return model


def check_operators(model: onnx.ModelProto, facts: Facts) -> None:
    """Raises Refused for operators that are not ONNX's own, newer than the servers, or nested too deep."""
    for opset in [*model.opset_import, *(opset for function in model.functions for opset in function.opset_import)]:
        # Exporters also declare domains of which they use nothing.
        if opset.domain in NEWEST_OPSETS:
            _check_version(opset.domain, opset.version)
    if not model.opset_import:
        raise Refused("The model does not say which version of ONNX's operators it uses.", EXPORT_ADVICE)
    if len(model.functions) > MAX_FUNCTIONS:
        raise Refused(f"The model has more than {MAX_FUNCTIONS} functions.", "Inline them: `onnx.inliner`.")
    functions = {(function.domain, function.name): function for function in model.functions}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    for node in _nodes(model.graph.node):
        _check_operator(node, functions, opsets)
        facts.operators[node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"] += 1
    for function in model.functions:
        for node in _nodes(function.node):
            _check_operator(node, functions, {opset.domain: opset.version for opset in function.opset_import})
    _check_expansion(model, functions)


def check_format(model: onnx.ModelProto) -> None:
    """What the ONNX project's own checker says. Raises Refused."""
    try:
        checker.check_model(model)
    except MemoryError:
        raise
    except Exception as error:  # its errors are RuntimeErrors and worse, from C++
        raise Refused(
            f"The ONNX checker refuses the model: {_first_line(error)}",
            "Run `onnx.checker.check_model` on it, mend what it names, and upload it again.",
        ) from error


def check_sizes(model: onnx.ModelProto, files: Mapping[str, bytes], facts: Facts) -> None:
    """Raises Refused for tensors that are not as large as they declare, lie elsewhere, or would be too large.

    `files`: what external data may be in, by the path in the archive; empty for a model in one file.
    """
    most = MAX_RESULT_BYTES
    for tensor in _tensors(model):
        count = _elements(tensor.dims, tensor.name)
        facts.parameters += count
        _check_content(tensor, count, files)
    for sparse in _sparse_tensors(model):
        if _elements(sparse.dims, sparse.values.name) * 16 > most:
            raise _too_large(f"The sparse tensor '{sparse.values.name}'", _elements(sparse.dims, ""), most)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in _all_nodes(model):
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].ints:
            constants[node.output[0]] = numpy_helper.from_array(np.array(node.attribute[0].ints, np.int64))
    for node in _all_nodes(model):
        size = _declared_bytes(node, constants)
        if size > most:
            raise _too_large(f"The operator {node.op_type} {node.name!r}"[:120], size, most)
    for value in model.graph.input:
        dims = [max(size.dim_value, 1) for size in value.type.tensor_type.shape.dim]
        if _elements(dims, value.name) > most:
            raise _too_large(f"The input '{value.name}'"[:120], _elements(dims, value.name), most)


def external_files(model: onnx.ModelProto) -> set[str]:
    """The paths that its external data names, as they stand."""
    return {_location(tensor) for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL}


def bring_in(model: onnx.ModelProto, files: Mapping[str, bytes]) -> None:
    """Puts the external data, which `check_sizes` has found sound, into the model."""
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            given = {entry.key: entry.value for entry in tensor.external_data}
            offset = int(given.get("offset") or 0)
            size = (math.prod(tensor.dims) * _bits(tensor.data_type) + 7) // 8
            tensor.raw_data = files[_location(tensor)][offset : offset + size]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")


def has_zipmap(model: onnx.ModelProto) -> bool:
    """Whether an output is scikit-learn's sequence of maps, one per row, from class to probability."""
    return any(node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" for node in model.graph.node) and any(
        value.type.HasField("sequence_type") for value in model.graph.output
    )


def _check_version(domain: str, version: int) -> None:
    if not OLDEST_OPSET <= version <= NEWEST_OPSETS[domain]:
        raise Refused(
            f"The model uses version {version} of {domain or 'ai.onnx'}, and {NEWEST_OPSETS[domain]} is the newest "
            "that runs here.",
            EXPORT_ADVICE,
        )


def _foreign(node: onnx.NodeProto) -> Refused:
    if node.domain.startswith("com.microsoft"):
        return Refused(
            f"The model uses {node.op_type[:100]!r} of {node.domain[:100]}: such operators exist in onnxruntime alone, "
            "and change with its version.",
            "Export the model without onnxruntime's optimiser (it fuses nodes into these operators), and quantise with "
            "`quant_format=QuantFormat.QDQ`.",
        )
    return Refused(
        f"The model uses {node.op_type[:100]!r} of {node.domain[:100]!r}, which is not a domain of ONNX that runs here "
        "(ai.onnx, ai.onnx.ml).",
        "Build the model from standard operators: custom operators are code, and no publisher's code runs here.",
    )


def _check_operator(node: onnx.NodeProto, functions: Mapping[tuple[str, str], Any], opsets: Mapping[str, int]) -> None:
    if (node.domain, node.op_type) in functions or (node.domain, node.op_type) in WELCOME:
        return
    if node.domain not in NEWEST_OPSETS:
        raise _foreign(node)
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain, opsets.get("ai.onnx", 0) if not domain else 0)
    if not version or not defs.has(node.op_type, domain=domain, max_inclusive_version=version):
        raise Refused(
            f"ONNX has no operator {node.op_type[:100]!r} in version {version} of {domain or 'ai.onnx'}.",
            "Build the model from standard operators: custom operators are code, and no publisher's code runs here.",
        )


def _check_expansion(model: onnx.ModelProto, functions: Mapping[tuple[str, str], onnx.FunctionProto]) -> None:
    """Functions that call functions double as often as they like: counted here as they would be inlined."""
    sizes: dict[tuple[str, str], int] = {}
    open_calls: list[tuple[str, str]] = []

    def size_of(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(1 + (expanded(key) if (key := (node.domain, node.op_type)) in functions else 0) for node in nodes)

    def expanded(key: tuple[str, str]) -> int:
        if key not in sizes:
            if key in open_calls or len(open_calls) > MAX_NESTING * 4:
                raise Refused("The model's functions call each other without end.", "Inline them: `onnx.inliner`.")
            open_calls.append(key)
            sizes[key] = size_of(_nodes(functions[key].node))
            open_calls.pop()
        return sizes[key]

    if size_of(_nodes(model.graph.node)) + sum(expanded(key) for key in functions) > MAX_NODES:
        raise Refused(f"The model has more than {MAX_NODES} nodes.", "Simplify it, with onnxsim for example.")


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """With those of subgraphs, each once."""
    waiting = [(iter(nodes), 0)]
    count = 0
    while waiting:
        level, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise Refused(
                f"Subgraphs are nested more than {MAX_NESTING} deep.", "Flatten the model's If, Loop and Scan."
            )
        for node in level:
            count += 1
            if count > MAX_NODES:
                raise Refused(f"The model has more than {MAX_NODES} nodes.", "Simplify it, with onnxsim for example.")
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append((iter(attribute.g.node), depth + 1))
                waiting.extend((iter(graph.node), depth + 1) for graph in attribute.graphs)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from _nodes(model.graph.node)
    for function in model.functions:
        yield from _nodes(function.node)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield model.graph
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for function in model.functions:
        for attribute in function.attribute_proto:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for sparse in _sparse_tensors(model):
        yield sparse.values
        yield sparse.indices


def _sparse_tensors(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in _graphs(model):
        yield from graph.sparse_initializer
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors


def _check_content(tensor: onnx.TensorProto, count: int, files: Mapping[str, bytes]) -> None:
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
    try:
        offset, length = int(given.get("offset") or 0), int(given.get("length") or size)
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length != size or offset + length > len(files[location]):
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


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
