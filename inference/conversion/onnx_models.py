"""ONNX models that would run here but for how they are written: what skl2onnx makes of scikit-learn above all.

- Newer versions of ONNX are declared than the servers know, of operators that are still as they were: the declaration
  is lowered.
- StringNormalizer folds letters by the locale en_US, which servers rarely have installed: C.UTF-8, which they do have,
  folds alike.
- A classifier's probabilities are a sequence of maps, which no tensor is: ZipMap (of ai.onnx.ml) pairs a tensor of
  probabilities with the classes' names. Without it the tensor itself is the output, and the names are its labels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from inference.checks import archives, detection, graphs, weights
from inference.checks.refusal import Refused

DOMAIN, OPERATOR = "ai.onnx.ml", "ZipMap"
MAX_LABELS = 65_536
LOCALE = "C.UTF-8"

USED = Refused(
    "The model goes on computing with the maps of a ZipMap, which no tensors are.",
    'Convert it with the option zipmap=False: `to_onnx(model, X, options={"zipmap": False})`.',
)


def convert(kind: str, artifact: Path, destination: Path) -> dict[str, Any]:
    """Writes the model anew, and answers with the labels of what its ZipMaps gave. Raises Refused."""
    content = artifact.read_bytes()
    data: Mapping[str, bytes] = {}
    if detection.is_zip(content):
        content, data = archives.model_and_data(archives.read(content))
    model = graphs.parse(content)
    weights.bring_in(model, data)
    lower(model)
    labels = unzip(model)
    destination.write_bytes(model.SerializeToString())
    return {"labels": labels}


def lower(model: onnx.ModelProto) -> None:
    """To versions that the servers know, and the locale that they have."""
    model.ir_version = min(model.ir_version, graphs.NEWEST_IR)
    for opset in graphs.opsets_of(model):
        opset.version = min(opset.version, graphs.NEWEST_OPSETS[opset.domain])
    for node in filter(graphs.is_in_english, graphs.nodes(model.graph.node)):
        for attribute in [each for each in node.attribute if each.name == "locale"]:
            node.attribute.remove(attribute)
        node.attribute.append(helper.make_attribute("locale", LOCALE))


def unzip(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Puts the tensor in the place of each ZipMap of the graph; answers with the labels by output."""
    graph = model.graph
    outputs = {value.name: value for value in graph.output}
    used = {name for node in graph.node for name in node.input}
    labels: dict[str, list[str]] = {}
    for node in graph.node:
        if (node.domain, node.op_type) != (DOMAIN, OPERATOR):
            continue
        (name,) = node.output
        if name in used or name not in outputs:
            raise USED
        labels[name] = _labels(node)
        outputs[name].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [None, len(labels[name]) or None]))
        node.CopyFrom(helper.make_node("Identity", list(node.input), [name], name=node.name))
    return labels


def _labels(node: onnx.NodeProto) -> list[str]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings" and attribute.strings:
            return [text.decode(errors="replace") for text in attribute.strings[:MAX_LABELS]]
        if attribute.name == "classlabels_int64s" and attribute.ints:
            return [str(number) for number in attribute.ints[:MAX_LABELS]]
    return []
