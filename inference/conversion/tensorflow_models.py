"""SavedModel and TFLite to ONNX, by tf2onnx. It runs where TensorFlow is (requirements-convert.txt), and locked in."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when TensorFlow is imported: no GPU, nothing but errors in the log, the same numbers on every processor.
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx.convert
import tf2onnx.utils
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tf2onnx.handler import tf_op

from inference.checks import archives
from inference.checks.refusal import Refused

OPSET = 17
PYTHON_OPERATORS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
SERVE, USUAL_SIGNATURE, INITIALISATION = "serve", "serving_default", "__saved_model_init_op"

NO_SIGNATURE = Refused(
    "The SavedModel has no signature that says what to call.",
    "Export it with one: `model.export(folder)` in Keras, or "
    "`tf.saved_model.save(model, folder, signatures=model.__call__.get_concrete_function(...))`.",
)


def convert(kind: str, artifact: Path, destination: Path) -> dict[str, Any]:
    """Writes an ONNX model. Raises Refused."""
    source = _unpacked(artifact) if kind == "saved-model" else artifact
    names: dict[str, str] = {}
    if kind == "saved-model":
        arguments = ["--saved-model", str(source), "--tag", SERVE, "--signature_def", _signature(source)]
    else:
        arguments = ["--tflite", str(source)]
        names = _names(source)
    sys.argv = ["tf2onnx", *arguments, "--output", str(destination), "--opset", str(OPSET)]
    try:
        tf2onnx.convert.main()
    except (Exception, SystemExit) as error:  # what it finds wrong it says by a dozen kinds of exception
        raise Refused(
            f"tf2onnx cannot convert it: {type(error).__name__}: {error}"[:600],
            "Operators that ONNX has no counterpart of, and shapes that only the run decides, are the usual reasons: "
            "https://github.com/onnx/tensorflow-onnx/blob/main/support_status.md lists what can be converted.",
        ) from error
    _check_operators(destination)
    if names:
        _rename(destination, names)
    return {"labels": {}}


@tf_op("Erfc")
class _Erfc:
    """1 - erf(x), which the exact GELU is made of, and which tf2onnx 1.17 leaves as it is."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_others: Any) -> None:
        (shape,), (dtype,), (output,) = node.output_shapes, node.output_dtypes, node.output
        ctx.remove_node(node.name)
        one = ctx.make_const(f"{node.name}/one", np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtype)))
        erf = ctx.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype])
        ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=[output], shapes=[shape], dtypes=[dtype])


def _check_operators(path: Path) -> None:
    """What tf2onnx has no counterpart for, it may leave in the graph under TensorFlow's name."""
    nodes = onnx.load(path).graph.node
    unknown = sorted({node.op_type for node in nodes if not onnx.defs.has(node.op_type, node.domain)})
    if unknown:
        raise Refused(
            f"ONNX has no counterpart of TensorFlow's {', '.join(unknown)[:200]}.",
            "Write that part of the model with other operators, and export it again.",
        )


def _unpacked(artifact: Path) -> Path:
    folder = artifact.with_name("saved")
    files = archives.read(artifact.read_bytes())
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    roots = [folder / name for name in files if name.rpartition("/")[2] == "saved_model.pb"]
    if len(roots) != 1:
        raise Refused(
            f"The zip holds {len(roots)} saved_model.pb files.", "Put the folder of one SavedModel into the zip."
        )
    return roots[0].parent


def _signature(folder: Path) -> str:
    """The name of the one to call; what cannot be converted in any case is told by name."""
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's own error class is not part of its interface
        raise Refused("The file saved_model.pb is damaged.", "Export the model again.") from error
    served = [graph for graph in saved.meta_graphs if SERVE in graph.meta_info_def.tags]
    if not served:
        raise NO_SIGNATURE
    operators = set(_operators(served[0]))
    own = {function.signature.name for function in served[0].graph_def.library.function}
    if python := sorted(operators & PYTHON_OPERATORS):
        raise Refused(
            f"The model calls Python code ({', '.join(python)}), which is not in the SavedModel and is not run here.",
            "Write that part with TensorFlow's own operators, without tf.py_function and tf.numpy_function.",
        )
    if custom := sorted(name for name in operators - own if op_def_registry.get(name) is None):
        raise Refused(
            f"The model has operators that are not TensorFlow's own: {', '.join(custom)[:200]}.",
            "Custom operators are code. Write that part with TensorFlow's own operators.",
        )
    names = [name for name in served[0].signature_def if name != INITIALISATION]
    if USUAL_SIGNATURE not in names and len(names) != 1:
        raise NO_SIGNATURE
    return USUAL_SIGNATURE if USUAL_SIGNATURE in names else str(names[0])


def _operators(graph: Any) -> Iterator[str]:
    for node in graph.graph_def.node:
        yield node.op
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            yield node.op


def _names(artifact: Path) -> dict[str, str]:
    """TFLite's tensors -> what its signature calls them; nothing for a model without one."""
    try:
        interpreter = tf.lite.Interpreter(model_path=str(artifact))
    except ValueError as error:
        raise Refused(f"TensorFlow Lite cannot read it: {error}"[:600], "Convert the model again.") from error
    tensors = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    signatures = interpreter._get_full_signature_list()
    if len(signatures) != 1:
        return {}
    (signature,) = signatures.values()
    told = {**signature["inputs"], **signature["outputs"]}
    names = {tensors[index]: name for name, index in told.items() if index in tensors}
    return names if len(set(names.values())) == len(told) == len(names) else {}


def _rename(path: Path, names: dict[str, str]) -> None:
    model = onnx.load(path)
    graph = model.graph
    shown = [value.name for value in (*graph.input, *graph.output)]
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    if any(names[name] in taken for name in shown if name in names):
        return
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            for position, name in enumerate(tensors):
                if name in shown:
                    tensors[position] = names.get(name, name)
    onnx.save(model, path)
