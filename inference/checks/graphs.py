"""An ONNX model read and judged before anything runs: versions, operators, nesting.

ONNX IR specification: github.com/onnx/onnx, docs/IR.md.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import checker, defs

from . import wire
from .refusal import Refused

# What the servers' onnxruntime is known to run.
OLDEST_IR, NEWEST_IR = 3, 10
NEWEST_OPSETS = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5}
OLDEST_OPSET = 1
# What a library may say of a model that uses nothing of it.
KNOWN_IR, KNOWN_OPSETS = int(onnx.IR_VERSION), NEWEST_OPSETS | dict.fromkeys(("", "ai.onnx"), defs.onnx_opset_version())
# Not of ONNX, and all the same what skl2onnx makes of every text vectoriser: onnxruntime has it on every platform, and
# its expressions (RE2) run in linear time.
WELCOME = {("com.microsoft", "Tokenizer")}

MAX_NESTING = 6
MAX_NODES = 100_000
MAX_FUNCTIONS = 512

EXPORT_ADVICE = (
    "Export it with an older target: `torch.onnx.export(…, opset_version=17)`, `to_onnx(…, target_opset=17)` or "
    "`python -m tf2onnx.convert … --opset 17`; an existing file: `onnx.version_converter.convert_version(model, 17)` "
    "with `model.ir_version = 8`."
)


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
    if not OLDEST_IR <= model.ir_version <= KNOWN_IR:
        raise Refused(
            f"The model has IR version {model.ir_version}, and versions {OLDEST_IR} to {NEWEST_IR} run here.",
            EXPORT_ADVICE,
        )
    if model.training_info:
        raise Refused("The model brings its training along (training_info).", "Export it for inference.")
    return model


def check_operators(model: onnx.ModelProto, facts: Facts) -> None:
    """Raises Refused for operators that are not ONNX's own, newer than the servers, or nested too deep."""
    for opset in opsets_of(model):
        if not OLDEST_OPSET <= opset.version <= KNOWN_OPSETS[opset.domain]:
            raise _too_new("", opset.version, opset.domain)
    if not model.opset_import:
        raise Refused("The model does not say which version of ONNX's operators it uses.", EXPORT_ADVICE)
    if len(model.functions) > MAX_FUNCTIONS:
        raise Refused(f"The model has more than {MAX_FUNCTIONS} functions.", "Inline them: `onnx.inliner`.")
    functions = {(function.domain, function.name): function for function in model.functions}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    for node in nodes(model.graph.node):
        _check_operator(node, functions, opsets)
        facts.operators[node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"] += 1
    for function in model.functions:
        for node in nodes(function.node):
            _check_operator(node, functions, {opset.domain: opset.version for opset in function.opset_import})
    _check_expansion(model, functions)


def check_format(model: bytes) -> None:
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


def is_to_be_rewritten(model: onnx.ModelProto) -> bool:
    """Whether it would run here but for how it is written: newer by name alone, in a language, or with a ZipMap."""
    newer = any(opset.version > NEWEST_OPSETS[opset.domain] for opset in opsets_of(model))
    spoken = any(is_in_english(node) for node in nodes(model.graph.node))
    return newer or model.ir_version > NEWEST_IR or spoken or _has_zipmap(model)


def opsets_of(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """The versions that it and its functions declare, but for domains that exporters declare and use nothing of."""
    declared = [*model.opset_import, *(opset for function in model.functions for opset in function.opset_import)]
    return [opset for opset in declared if opset.domain in NEWEST_OPSETS]


def is_in_english(node: onnx.NodeProto) -> bool:
    """Whether it folds letters by the locale en_US, also when it says nothing, which servers rarely have installed."""
    given = [attribute.s for attribute in node.attribute if attribute.name == "locale"]
    return node.op_type == "StringNormalizer" and (given or [b"en_US"])[0].startswith(b"en_US")


def _has_zipmap(model: onnx.ModelProto) -> bool:
    """Whether an output is scikit-learn's sequence of maps, one per row, from class to probability."""
    return any(node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" for node in model.graph.node) and any(
        value.type.HasField("sequence_type") for value in model.graph.output
    )


def _too_new(operator: str, version: int, domain: str) -> Refused:
    what = f"{operator} as it is since version {version}" if operator else f"version {version}"
    return Refused(
        f"The model uses {what} of {domain or 'ai.onnx'}, and {NEWEST_OPSETS[domain]} is the newest that runs here.",
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
    since = defs.get_schema(node.op_type, version, domain).since_version
    if since > NEWEST_OPSETS[domain]:
        raise _too_new(node.op_type, since, domain)


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
            sizes[key] = size_of(nodes(functions[key].node))
            open_calls.pop()
        return sizes[key]

    if size_of(nodes(model.graph.node)) + sum(expanded(key) for key in functions) > MAX_NODES:
        raise Refused(f"The model has more than {MAX_NODES} nodes.", "Simplify it, with onnxsim for example.")


def nodes(level: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """With those of subgraphs, each once."""
    waiting = [(iter(level), 0)]
    count = 0
    while waiting:
        below, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise Refused(
                f"Subgraphs are nested more than {MAX_NESTING} deep.", "Flatten the model's If, Loop and Scan."
            )
        for node in below:
            count += 1
            if count > MAX_NODES:
                raise Refused(f"The model has more than {MAX_NODES} nodes.", "Simplify it, with onnxsim for example.")
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append((iter(attribute.g.node), depth + 1))
                waiting.extend((iter(graph.node), depth + 1) for graph in attribute.graphs)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
