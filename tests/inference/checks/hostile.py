"""Artefacts that nobody honest would upload, made by code: name -> (content, what the reason of the refusal says)."""

import io
import json
import pickle
import random
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OptionalProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    helper,
    numpy_helper,
)

Hostile = Iterator[tuple[str, bytes, str]]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
GIGANTIC = 60_000
CANARY = "canary-51c9"

value = helper.make_tensor_value_info


def tensor(name: str, values: Any, dtype: Any = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(
    nodes: Sequence[NodeProto],
    weights: Sequence[TensorProto] = (),
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    opsets: dict[str, int] | None = None,
    ir: int = 8,
    functions: Sequence[Any] = (),
) -> ModelProto:
    """From x to y, FP32 of any size."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs if inputs is not None else [value("x", FLOAT, ["n"])],
        outputs if outputs is not None else [value("y", FLOAT, None)],
        weights,
    )
    for output in graph.output:
        if output.type.HasField("tensor_type") and not output.type.tensor_type.HasField("shape"):
            output.CopyFrom(value(output.name, FLOAT, ["m"]))
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=functions)


def sound() -> ModelProto:
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("w", [1, 2, 3], np.float32)])


def zipped(
    files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, modes: dict[str, int] | None = None
) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.filename = name
            entry.compress_type = method
            entry.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return written.getvalue()


def names() -> Hostile:
    for label, name in {
        "up": "../evil",
        "up from a folder": "a/../../evil",
        "absolute": "/etc/evil",
        "drive": "C:/evil",
        "backslashes": "..\\evil",
        "empty part": "a//b",
        "dot": "./a",
        "dot inside": "a/./b",
        "space": " a",
        "space before a slash": "a /b",
        "newline": "a\nb",
        "escape": "a\x1b[2Jb",
        "right to left": "a\u202eb",
        "long": "a" * 300,
        "long path": "a/" * 150 + "b",
    }.items():
        yield f"zip, name: {label}", zipped({name: b"evil", "model.onnx": sound().SerializeToString()}), "the name"


def members() -> Hostile:
    onnx_file = sound().SerializeToString()
    for label, mode in {
        "symbolic link": stat.S_IFLNK,
        "device": stat.S_IFCHR,
        "block device": stat.S_IFBLK,
        "pipe": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
    }.items():
        content = zipped({"weights": b"/etc/passwd", "model.onnx": onnx_file}, modes={"weights": mode | 0o777})
        yield f"zip, {label}", content, "a link or a device"
    link = zipped({"model.onnx": b"/etc/passwd"}, modes={"model.onnx": stat.S_IFLNK | 0o777})
    yield "zip, the model is a link", link, "a link or a device"
    two = zipped({"model.onnx": onnx_file, "nodel.onnx": b"other"}).replace(b"nodel.onnx", b"model.onnx")
    yield "zip, a name twice", two, "two files with the name"
    yield "zip, a name twice but for its case", zipped({"w": b"1", "W": b"2", "model.onnx": onnx_file}), "two files"
    yield "zip, a file and a folder", zipped({"a": b"1", "a/b": b"2", "model.onnx": onnx_file}), "both as a file and"
    yield "zip, bzip2", zipped({"model.onnx": onnx_file}, method=zipfile.ZIP_BZIP2), "rare method"
    yield "zip, lzma", zipped({"model.onnx": onnx_file}, method=zipfile.ZIP_LZMA), "rare method"
    yield "zip, encrypted", flagged(zipped({"model.onnx": onnx_file}), 1), "encrypted"
    yield "zip, two models", zipped({"a.onnx": onnx_file, "b.onnx": onnx_file}), "2 .onnx files"
    yield "zip, nothing in it", zipped({}), "no .onnx file"
    yield "zip, only a zip in it", zipped({"inner.zip": zipped({"model.onnx": onnx_file})}), "no .onnx file"
    yield "zip, many files", zipped({f"f{number}": b"" for number in range(2000)}), "more than 512 files"


def flagged(archive: bytes, flag: int) -> bytes:
    content = bytearray(archive)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(magic)
        content[start + offset] |= flag
    return bytes(content)


def bombs() -> Hostile:
    onnx_file = sound().SerializeToString()
    zeros = zipped({"model.onnx": onnx_file, "weights": bytes(200 * 2**20)})
    yield "zip bomb", zeros, "unpacks to more"
    yield "zip bomb in parts", zipped({f"w{n}": bytes(2**20) for n in range(100)} | {"m.onnx": onnx_file}), "unpacks to"
    yield "zip bomb as the model", zipped({"model.onnx": bytes(100 * 2**20)}), "unpacks to more"
    lying = bytearray(zipped({"model.onnx": onnx_file, "weights": bytes(64 * 2**20)}))
    entry = lying.rfind(b"PK\x01\x02")
    lying[entry + 24 : entry + 28] = struct.pack("<L", 100)
    yield "zip bomb that declares little", bytes(lying), "two different things"
    yield "zip that overlaps itself", overlapping(), "unpacks to more|damaged"
    yield "zip with a directory of millions", directory_of_many(), "more than 512 files|damaged"
    nested = zipped({"w": bytes(2**20)})
    for _ in range(20):
        nested = zipped({f"z{n}.zip": nested for n in range(4)})[:1_000_000]
    yield "zips in zips", zipped({"a.zip": nested}), "no .onnx file"
    huge = zipped({"ensemble.json": b"[" * (40 * 2**20)})
    yield "zip bomb as ensemble.json", huge, "unpacks to more|ensemble"


def overlapping() -> bytes:
    """Each entry of the directory points to the same compressed data."""
    packed = zipped({"weights": bytes(30 * 2**20), "model.onnx": sound().SerializeToString()})
    end = packed.rfind(b"PK\x05\x06")
    (start,) = struct.unpack_from("<L", packed, end + 16)
    first = packed[start : packed.find(b"PK\x01\x02", start + 4)]
    others = b"".join(first.replace(b"weights", b"weigh%02d" % number) for number in range(100))
    directory = packed[start:end] + others
    return packed[:start] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 102, 102, len(directory), start, 0)


def directory_of_many() -> bytes:
    packed = zipped({"model.onnx": sound().SerializeToString()})
    end = packed.rfind(b"PK\x05\x06")
    (start,) = struct.unpack_from("<L", packed, end + 16)
    directory = packed[start:end] * 100_000
    return packed[:start] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), start, 0)


def ensembles() -> Hostile:
    def described(steps: Any, **others: Any) -> dict[str, Any]:
        tensors = [{"name": "x", "datatype": "FP32", "shape": [-1]}]
        outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]
        return {"inputs": tensors, "outputs": outputs, "steps": steps} | others

    def step(**others: Any) -> dict[str, Any]:
        maps = {"input_map": {"x": "x"}, "output_map": {"y": "y"}}
        files = {"files": {"model.onnx": "network/model.onnx"}}
        return {"name": "network", "backend": "onnxruntime", **files, **described([]), **maps} | others

    def packed(description: Any, files: dict[str, bytes] | None = None) -> bytes:
        text = description if isinstance(description, bytes) else json.dumps(description).encode()
        return zipped({"ensemble.json": text, **(files or {"network/model.onnx": sound().SerializeToString()})})

    cannot = "ensemble cannot be used"
    yield "ensemble, not JSON", packed(b"{"), cannot
    yield "ensemble, deep JSON", packed(b"[" * 100_000), cannot
    yield "ensemble, a number", packed(b"1" * 5000), cannot
    yield "ensemble, no steps", packed(described([])), cannot
    yield "ensemble, many steps", packed(described([step(name=f"s{number}") for number in range(100)])), cannot
    yield (
        "ensemble, backend of code",
        packed(described([step(backend="python", files={"model.py": "network/m.py"})])),
        ("asks for a backend"),
    )
    traversal = described([step(files={"model.onnx": "../../etc/passwd"})])
    yield "ensemble, file elsewhere", packed(traversal), "lie in the folder"
    yield "ensemble, file that is not there", packed(described([step(files={"model.onnx": "network/none"})])), cannot
    wide = [{"name": "x", "datatype": "INT64", "shape": [-1]}]
    yield "ensemble, another signature", packed(described([step(inputs=wide)], inputs=wide)), "and its graph has"
    yield "ensemble, a shape of words", packed(described([step()], inputs=[{"name": "x", "shape": "?"}])), cannot
    for label, network, reason in (
        ("a custom operator", custom("evil"), "not a domain of ONNX"),
        ("an endless loop", endless(), "was not over"),
        ("a network that is none", b"no network", "not an ONNX model"),
        ("external data", external(location="/etc/passwd"), "in another file"),
    ):
        yield f"ensemble, {label}", packed(described([step()]), {"network/model.onnx": network}), reason
    words = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    ids = [{"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}]
    tensors = {"inputs": words, "outputs": ids}
    maps = {"input_map": {"text": "text"}, "output_map": {"input_ids": "input_ids"}}
    tokens = described([step(name="t", backend="tokenizer", files={"tokenizer.json": "t/t"}, **maps, **tensors)])
    forever = json.dumps({"model": {}, "normalizer": {"pattern": {"Regex": "(a+)+$"}}}).encode()
    yield "ensemble, a tokenizer for ever", packed(tokens | tensors, {"t/t": forever}), "repeat no group"
    yield "ensemble, a tokenizer that is none", packed(tokens | tensors, {"t/t": b"[]"}), "tokenizer.json of a Hugging"
    template = {"chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"}
    files = {"model.onnx": "g/model.onnx", "tokenizer.json": "g/tokenizer.json", "generation.json": "g/generation.json"}
    generator = step(name="g", backend="generator", files=files)
    content = {"g/model.onnx": sound().SerializeToString(), "g/tokenizer.json": b"{}"}
    chatty = content | {"g/generation.json": json.dumps(template).encode()}
    yield "generator, an endless chat template", packed(described([generator]), chatty), "chat template"
    broken = content | {"g/generation.json": b"{"}
    yield "generator, settings that are none", packed(described([generator]), broken), "not JSON"


def external(files: bool = False, **given: Any) -> bytes:
    weights = TensorProto(name="w", data_type=FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, each in ({"location": "weights", "offset": "0", "length": "12"} | given).items():
        weights.external_data.add(key=key, value=str(each))
    content: bytes = model([helper.make_node("Add", ["x", "w"], ["y"])], [weights]).SerializeToString()
    return zipped({"model.onnx": content, "weights": bytes(12)}) if files else content


def external_data() -> Hostile:
    for label, location in {
        "absolute": "/etc/passwd",
        "up": "../../../../etc/passwd",
        "up and down": "a/../../weights",
        "home": "~/.ssh/id_rsa",
        "url": "file:///etc/passwd",
        "process": "/proc/self/environ",
        "canary": f"/tmp/{CANARY}",
        "empty": "",
        "dot": "./weights",
        "backslashes": "..\\weights",
        "the model": "model.onnx",
        "missing": "weights2",
    }.items():
        yield f"external data, {label}", external(files=True, location=location), "not a file beside the model"
    for label, given in {
        "before the start": {"offset": -4},
        "past the end": {"offset": 4},
        "far past the end": {"offset": 2**62},
        "a word": {"offset": "zero"},
        "too long": {"length": 2**40},
        "too short": {"length": 4},
        "negative": {"length": -1},
    }.items():
        yield f"external data, {label}", external(files=True, **given), "not in 'weights' where"
    for location in ("numpy/__init__.py", "evil.so", "sitecustomize.pyc"):
        yield f"external data, {location}", external(files=True, location=location), "has the name of code"
    yield "external data without any", external(), "in another file"
    yield "external data of the system", external(location="/etc/passwd"), "in another file"


def endless(**options: Any) -> bytes:
    """The Loop of 311 bytes that passes the official checker."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [value("i", INT64, []), value("c", BOOL, []), value("v", FLOAT, ["n"])],
        [value("c2", BOOL, []), value("v2", FLOAT, ["n"])],
    )
    nodes = [helper.make_node("Loop", [options.get("trips", ""), "true", "x"], ["y"], body=body)]
    weights = [tensor("true", True, np.bool_), tensor("many", 2**62)]
    content: bytes = model(nodes, weights).SerializeToString()
    return content


def growing() -> bytes:
    """Doubles its state with each turn."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Concat", ["v", "v"], ["v2"], axis=0)],
        "body",
        [value("i", INT64, []), value("c", BOOL, []), value("v", FLOAT, None)],
        [value("c2", BOOL, []), value("v2", FLOAT, None)],
    )
    content: bytes = model(
        [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], [tensor("true", True, np.bool_)]
    ).SerializeToString()
    return content


def loops() -> Hostile:
    yield "endless loop", endless(), "was not over"
    yield "loop of 2**62 turns", endless(trips="many"), "was not over"
    yield "loop that doubles its state", growing(), "more memory|broke off"


def giants() -> Hostile:
    big = tensor("big", [GIGANTIC, GIGANTIC])
    node = helper.make_node
    reduced = node("ReduceSum", ["z"], ["s"], keepdims=0)
    back = [reduced, node("Add", ["x", "s"], ["y"])]

    def giant(*nodes: NodeProto, weights: Sequence[TensorProto] = (big,)) -> bytes:
        content: bytes = model([*nodes, *back], list(weights)).SerializeToString()
        return content

    large = "makes \\d+ bytes"
    yield "giant ConstantOfShape", giant(node("ConstantOfShape", ["big"], ["z"])), large
    yield "giant Expand", giant(node("Expand", ["x", "big"], ["z"])), large
    yield "giant Tile", giant(node("Tile", ["x", "t"], ["z"]), weights=[tensor("t", [2**34])]), large
    yield "giant RandomNormal", giant(node("RandomNormal", [], ["z"], shape=[GIGANTIC, GIGANTIC])), large
    yield "giant RandomUniform", giant(node("RandomUniform", [], ["z"], shape=[GIGANTIC, GIGANTIC])), large
    bounds = [tensor("a", 0.0, np.float32), tensor("b", 4e9, np.float32), tensor("c", 1.0, np.float32)]
    yield "giant Range", giant(node("Range", ["a", "b", "c"], ["z"]), weights=bounds), large
    padding = [tensor("p", [0, 2**32])]
    yield "giant Pad", giant(node("Pad", ["x", "p"], ["z"]), weights=padding), large
    depth = [tensor("d", 2**32), tensor("v", [0.0, 1.0], np.float32), tensor("i", [1])]
    yield "giant OneHot", giant(node("OneHot", ["i", "d", "v"], ["z"]), weights=depth), large
    constant = node("Constant", [], ["big"], value=big)
    yield "giant by a Constant", giant(constant, node("ConstantOfShape", ["big"], ["z"]), weights=[]), large
    ints = node("Constant", [], ["big"], value_ints=[GIGANTIC, GIGANTIC])
    yield "giant by a Constant of integers", giant(ints, node("ConstantOfShape", ["big"], ["z"]), weights=[]), large
    then = helper.make_graph([node("ConstantOfShape", ["big"], ["q"])], "then", [], [value("q", FLOAT, None)])
    other = helper.make_graph([node("ConstantOfShape", ["big"], ["q"])], "else", [], [value("q", FLOAT, None)])
    branch = node("If", ["true"], ["z"], then_branch=then, else_branch=other)
    yield "giant in a branch", giant(branch, weights=[big, tensor("true", True, np.bool_)]), large

    memory = "more memory|does not load|broke off"
    hidden = [node("Mul", ["half", "two"], ["shape"]), node("ConstantOfShape", ["shape"], ["z"])]
    halves = [tensor("half", [GIGANTIC // 2] * 2), tensor("two", [2, 2])]
    yield "giant by computation", giant(*hidden, weights=halves), memory
    asked = [node("Shape", ["x"], ["one"]), node("Mul", ["one", "big"], ["shape"])]
    yield "giant by the input's size", giant(*asked, node("ConstantOfShape", ["shape"], ["z"])), memory
    eye = [
        node("Mul", ["half", "two"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["e"]),
        node("EyeLike", ["e"], ["z"]),
    ]
    yield "giant EyeLike", giant(*eye, weights=halves), memory
    like = [*hidden[:1], node("ConstantOfShape", ["shape"], ["l"]), node("RandomNormalLike", ["l"], ["z"])]
    yield "giant RandomNormalLike", giant(*like, weights=halves), memory
    wide = [
        node("Mul", ["half", "two"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["v"]),
        node("Unsqueeze", ["v", "first"], ["left"]),
        node("MatMul", ["left", "v"], ["z"]),
    ]
    column = [tensor("half", [50_000]), tensor("two", [2]), tensor("first", [1])]
    yield "giant MatMul", giant(*wide, weights=column), memory + "|It loads"
    image = [value("x", FLOAT, [1, 3, GIGANTIC, GIGANTIC])]
    yield "giant input", model([node("Identity", ["x"], ["y"])], inputs=image).SerializeToString(), large

    declared = "declares"
    for label, dims in {
        "by far": [GIGANTIC, GIGANTIC],
        "2**62": [2**31, 2**31],
        "2**63": [2**62, 2],
        "zero times everything": [2],
    }.items():
        lying = TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=bytes(12))
        yield (
            f"weights that declare more, {label}",
            model([node("Add", ["x", "w"], ["y"])], [lying]).SerializeToString(),
            declared,
        )
    negative = TensorProto(name="w", data_type=FLOAT, dims=[-3], raw_data=bytes(12))
    yield (
        "weights of negative size",
        model([node("Add", ["x", "w"], ["y"])], [negative]).SerializeToString(),
        "negative",
    )
    few = TensorProto(name="w", data_type=FLOAT, dims=[GIGANTIC, GIGANTIC], float_data=[1.0])
    yield "weights that are missing", model([node("Add", ["x", "w"], ["y"])], [few]).SerializeToString(), declared
    unknown = TensorProto(name="w", data_type=99, dims=[3], raw_data=bytes(12))
    yield "weights of no type", model([node("Add", ["x", "w"], ["y"])], [unknown]).SerializeToString(), "unknown type"
    strings = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2**40], string_data=[b"a"])
    yield "strings that are missing", model([node("Identity", ["x"], ["y"])], [strings]).SerializeToString(), declared
    sparse = model([node("Add", ["x", "w"], ["y"])])
    sparse.graph.sparse_initializer.append(
        SparseTensorProto(values=tensor("w", [1.0], np.float32), indices=tensor("i", [0]), dims=[GIGANTIC * GIGANTIC])
    )
    yield "sparse weights that are giant", sparse.SerializeToString(), large


def custom(domain: str, op: str = "Evil", version: int = 1) -> bytes:
    content: bytes = model(
        [helper.make_node(op, ["x"], ["y"], domain=domain)], opsets={"": 17, domain: version}
    ).SerializeToString()
    return content


def operators() -> Hostile:
    yield "operator of a custom domain", custom("evil"), "not a domain of ONNX"
    yield "operator of onnxruntime's own", custom("com.microsoft", "Gelu"), "onnxruntime alone"
    yield "operator of onnxruntime's training", custom("com.microsoft.nchwc", "Conv"), "onnxruntime alone"
    yield "operator of ONNX's training", custom("ai.onnx.preview.training", "Adam"), "not a domain of ONNX"
    yield "operator of ONNX's preview", custom("ai.onnx.preview", "FlexAttention"), "not a domain of ONNX"
    yield "operator that runs Python", custom("ai.onnx.contrib", "PyOp"), "not a domain of ONNX"
    yield "operator that ATen has", custom("org.pytorch.aten", "ATen"), "not a domain of ONNX"
    yield "operator that is unknown", custom("", "Evil", 17), "no operator 'Evil'"
    yield "operator of ML that is unknown", custom("ai.onnx.ml", "Evil", 3), "no operator 'Evil'"
    branches = [
        helper.make_graph([helper.make_node("Evil", ["x"], ["q"], domain="evil")], name, [], [value("q", FLOAT, None)])
        for name in ("then", "else")
    ]
    node = helper.make_node("If", ["true"], ["y"], then_branch=branches[0], else_branch=branches[1])
    hidden = model([node], [tensor("true", True, np.bool_)], opsets={"": 17, "evil": 1})
    yield "operator hidden in a branch", hidden.SerializeToString(), "not a domain of ONNX"
    seventeen = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    inside = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Evil", ["a"], ["b"], domain="evil")], seventeen
    )
    calls = [helper.make_node("F", ["x"], ["y"], domain="own")]
    hidden = model(calls, opsets={"": 17, "own": 1, "evil": 1}, functions=[inside])
    yield "operator hidden in a function", hidden.SerializeToString(), "not a domain of ONNX"


def functions() -> Hostile:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def function(name: str, *calls: str) -> Any:
        states = ["a", *(f"t{number}" for number in range(1, len(calls))), "b"]
        nodes = [
            helper.make_node(call, [states[number]], [states[number + 1]], domain="own")
            for number, call in enumerate(calls)
        ]
        return helper.make_function("own", name, ["a"], ["b"], nodes, imports)

    call = [helper.make_node("F0", ["x"], ["y"], domain="own")]
    opsets = {"": 17, "own": 1}
    itself = model(call, opsets=opsets, functions=[function("F0", "F0")])
    yield "function that calls itself", itself.SerializeToString(), "without end"
    circle = model(call, opsets=opsets, functions=[function("F0", "F1"), function("F1", "F0")])
    yield "functions in a circle", circle.SerializeToString(), "without end"
    doubling = [function(f"F{number}", f"F{number + 1}", f"F{number + 1}") for number in range(20)]
    last = helper.make_function("own", "F20", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], imports)
    laughs = model(call, opsets=opsets, functions=[*doubling, last])
    yield "functions that double", laughs.SerializeToString(), "more than 100000 nodes"
    many = [function(f"F{number}", "F1") for number in range(1000)]
    yield "a thousand functions", model(call, opsets=opsets, functions=many).SerializeToString(), "512 functions"


def versions() -> Hostile:
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    for ir in (1, 2, 99, 2**40):
        yield f"IR version {ir}", model(identity, ir=ir).SerializeToString(), "IR version"
    of_22 = model([helper.make_node("Sin", ["x"], ["y"])], opsets={"": 22}).SerializeToString()
    yield "an operator of opset 22", of_22, "is the newest"
    for opset in (-1, 0, 99, 2**40):
        yield f"opset {opset}", model(identity, opsets={"": opset}).SerializeToString(), "is the newest"
    yield "opset of ML 6", model(identity, opsets={"": 17, "ai.onnx.ml": 6}).SerializeToString(), "is the newest"
    without = model(identity)
    del without.opset_import[:]
    yield "no opset", without.SerializeToString(), "does not say which version"
    training = model(identity)
    training.training_info.add()
    yield "training", training.SerializeToString(), "its training along"


def nesting() -> Hostile:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["q"])], "g", [], [value("q", FLOAT, None)])
    graph = inner
    for depth in range(25):
        node = helper.make_node("If", ["true"], ["q"])
        node.attribute.append(AttributeProto(name="then_branch", type=AttributeProto.GRAPH, g=graph))
        node.attribute.append(AttributeProto(name="else_branch", type=AttributeProto.GRAPH, g=inner))
        graph = helper.make_graph([node], f"g{depth}", [], [value("q", FLOAT, None)])
        if depth in (9, 18, 24):  # protobuf itself would not write a deeper one
            nested = wrapped(graph)
            yield f"{depth + 1} branches in each other", nested, "nested more than|not an ONNX model"
    kind = TypeProto()
    kind.tensor_type.elem_type = FLOAT
    for _ in range(40):
        outer = TypeProto()
        outer.sequence_type.elem_type.CopyFrom(kind)
        kind = outer
    deep = model([helper.make_node("Identity", ["x"], ["y"])])
    deep.graph.value_info.add(name="v").type.CopyFrom(kind)
    yield "sequences of sequences", deep.SerializeToString(), "nested more than"
    chain = b""
    for _ in range(3000):
        chain = field(1, field(5, field(6, chain)))  # node, attribute, g
        if len(chain) > 60_000:
            break
    yield "a thousand graphs in each other", field(7, chain) + b"\x08\x08", "nested more than|not an ONNX model"


def wrapped(graph: GraphProto) -> bytes:
    made: bytes = model(
        [*graph.node, helper.make_node("Identity", ["q"], ["y"])], [tensor("true", True, np.bool_)]
    ).SerializeToString()
    return made


def field(number: int, content: bytes) -> bytes:
    length, size = len(content), b""
    while length >= 0x80:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def counts() -> Hostile:
    head = b"\x08\x08"
    yield "millions of nodes", head + field(7, b"\x0a\x00" * 2_000_000), "more than 250000 parts"
    yield (
        "many nodes",
        head + field(7, field(1, field(4, b"Neg")) * 150_000) + field(8, b"\x10\x11"),
        "more than 100000 nodes",
    )
    yield "millions of weights", head + field(7, b"\x2a\x00" * 3_000_000), "more than 250000 parts"
    yield "millions of opsets", head + b"\x42\x00" * 2_000_000, "more than 250000 parts"
    yield "a name of megabytes", head + field(7, field(2, b"a" * 10**7)), "not say which version|no outputs|checker"


def signatures() -> Hostile:
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    yield (
        "no input",
        model([helper.make_node("Constant", [], ["y"], value_float=1.0)], inputs=[]).SerializeToString(),
        ("takes no input|checker"),
    )
    yield "no output", model(identity, outputs=[]).SerializeToString(), "no outputs|checker"
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, None)
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    yield "sequences", model(identity, inputs=[sequence], outputs=[output]).SerializeToString(), "not a tensor|checker"
    complex_in = [value("x", TensorProto.COMPLEX64, [1])]
    complex_out = [value("y", TensorProto.COMPLEX64, [1])]
    yield "complex numbers", model(identity, inputs=complex_in, outputs=complex_out).SerializeToString(), "not a tensor"
    long = [value("x" * 300, FLOAT, [1])]
    node = [helper.make_node("Identity", ["x" * 300], ["y"])]
    yield "a name of 300 letters", model(node, inputs=long).SerializeToString(), "none that could be called"
    many = [value(f"x{number}", FLOAT, [1]) for number in range(2000)]
    adds = [helper.make_node("Sum", [each.name for each in many], ["y"])]
    yield "two thousand inputs", model(adds, inputs=many).SerializeToString(), "none that could be called"


def graphs() -> Hostile:
    node = helper.make_node
    yield "an input from nowhere", model([node("Add", ["x", "nowhere"], ["y"])]).SerializeToString(), "checker|load"
    circle = [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["a"], ["y"])]
    yield "a circle", model(circle).SerializeToString(), "checker"
    twice = [node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])]
    yield "a name given twice", model(twice).SerializeToString(), "checker"
    words = [node("Add", ["x", "w"], ["y"])]
    mixed = TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
    yield "words added to numbers", model(words, [mixed]).SerializeToString(), "does not load"
    yield (
        "an attribute that there is not",
        model([node("Neg", ["x"], ["y"], evil=1)]).SerializeToString(),
        "checker|load",
    )
    yield (
        "a Conv of a vector",
        model([node("Conv", ["x", "w"], ["y"])], [tensor("w", [1.0], np.float32)]).SerializeToString(),
        ("load|checker"),
    )


class Evil:
    def __reduce__(self) -> Any:
        return exec, (f"open('/tmp/{CANARY}', 'w').write('evil')",)


def other_formats() -> Hostile:
    for protocol in (2, 3, 4, 5):
        yield f"pickle, protocol {protocol}", pickle.dumps(Evil(), protocol), "pickle"
    yield "pickle, protocol 0", pickle.dumps(Evil(), 0), "pickle"
    hdf5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "HDF5", hdf5, "Keras"
    yield "Keras 3", zipped({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": hdf5}), "Keras"
    yield "zip of HDF5", zipped({"model.h5": hdf5}), "Keras"
    yield "TorchScript", zipped({"m/code/__torch__.py": b"", "m/data.pkl": b"", "m/constants.pkl": b""}), "PyTorch"
    yield "PyTorch weights", zipped({"archive/data.pkl": pickle.dumps(Evil()), "archive/version": b"3"}), "PyTorch"
    yield "PyTorch of old", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Evil(), 2), "pickle"
    yield "zip of a .pt", zipped({"model.pt": b"1"}), "PyTorch"
    yield "zip of a pickle", zipped({"model.joblib": pickle.dumps(Evil())}), "pickle"
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield "safetensors", struct.pack("<Q", len(header)) + header + bytes(4), "weights alone"
    yield "GGUF", b"GGUF\x03\x00\x00\x00" + bytes(64), "weights alone"
    numpy_file = io.BytesIO()
    np.save(numpy_file, np.array([Evil()], object), allow_pickle=True)
    yield "NumPy", numpy_file.getvalue(), "weights alone"
    yield "zip of NumPy", zipped({"w.npy": numpy_file.getvalue()}), "weights alone"
    yield "Python", b"import os\nos.system('id')\n", "Python code"
    yield "shell", b"#!/bin/sh\nrm -rf /\n", "Python code"
    yield "HTML", b"<script>alert(1)</script>", "Python code"
    yield "JSON", b'{"nodes": {}}', "Python code"
    yield "zip of Python", zipped({"model.py": b"import os"}), "Python code"
    yield "wheel", zipped({"evil/__init__.py": b"import os", "evil-1.dist-info/METADATA": b""}), "Python code"
    yield "compiled Python", zipped({"__pycache__/m.cpython-311.pyc": b"\xa7\r\r\n"}), "Python code"
    for label, magic in {
        "gzip": b"\x1f\x8b\x08",
        "bzip2": b"BZh9",
        "xz": b"\xfd7zXZ\x00",
        "7z": b"7z\xbc\xaf\x27\x1c",
        "zstd": b"(\xb5/\xfd",
        "rar": b"Rar!\x1a\x07",
    }.items():
        yield label, magic + bytes(100), "compressed file"
    yield "tar", bytes(257) + b"ustar\x0000" + bytes(248), "compressed file"
    for label, magic in {
        "ELF": b"\x7fELF\x02\x01\x01",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "zeros": b"",
        "PE": b"MZ\x90\x00",
        "class": b"\xca\xfe\xba\xbe",
    }.items():
        yield label, magic + bytes(200), "not an ONNX model|not a model"
    yield "nothing", b"", "is empty"
    yield "one byte", b"\x08", "not an ONNX model|Python code"
    yield "an optional", OptionalProto(name="o").SerializeToString() + b"\x00", "not an ONNX|Python code"


def cut_off() -> Hostile:
    chance = random.Random(5)
    whole = sound().SerializeToString()
    for position in sorted(chance.sample(range(20, len(whole) - 1), 15)):
        yield f"model cut off at {position}", whole[:position], "not an ONNX model|not say which version"
    archive = external(files=True)
    for position in sorted(chance.sample(range(4, len(archive) - 1), 15)):
        yield f"zip cut off at {position}", archive[:position], "damaged"
    for number in range(10):
        noise = chance.randbytes(chance.randrange(100, 5000))
        yield f"noise {number}", noise, "not an ONNX model|not a model|text"
        yield f"noise {number} in a zip", b"PK\x03\x04" + noise, "damaged"


def everything() -> list[tuple[str, bytes, str]]:
    kinds = (
        names,
        members,
        bombs,
        ensembles,
        external_data,
        loops,
        giants,
        operators,
        functions,
        versions,
        nesting,
        counts,
        signatures,
        graphs,
        other_formats,
        cut_off,
    )
    return [each for kind in kinds for each in kind()]


def mutated(count: int) -> Iterator[bytes]:
    """Sound models with a few bytes changed, seeded: some still are models, and some are not."""
    chance = random.Random(11)
    origins = [sound().SerializeToString(), external(files=True), endless(trips="many")[:-1] + b"\x08"]
    for _ in range(count):
        content = bytearray(chance.choice(origins[:2]))
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        yield bytes(content)
