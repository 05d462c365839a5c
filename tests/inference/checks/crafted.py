"""Zips and protobuf messages that no library would write, made byte by byte: as hostile.py has them."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from tests.inference.checks.hostile import Hostile, external, field, model, sound, zipped

ENTRY, DIRECTORY_ENTRY, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
NEWER, FILE = 20, 0o100644 << 16
ORT_MEMORY = "*/_ORT_MEM_ADDR_/*"


def header(name: bytes, data: bytes, told: Mapping[str, Any]) -> list[Any]:
    """Version, flags, method, time, date, CRC, packed and real size, length of the name."""
    size = told.get("size", len(data))
    return [NEWER, told.get("flags", 0), told.get("method", 0), 0, 33, told.get("crc", zlib.crc32(data)), size, size]


def archive(*entries: tuple[bytes, bytes], local: Mapping[str, Any] | None = None, **told: Any) -> bytes:
    """Stored; `told` of each entry by the directory, and by its own header unless `local` says otherwise."""
    written, directory = b"", b""
    for name, data in entries:
        position = told.get("position", len(written))
        own = ENTRY.pack(b"PK\3\4", *header(name, data, told if local is None else local), len(name), 0)
        listed = (NEWER, *header(name, data, told), len(name), 0, 0, 0, 0, FILE, position)
        written += own + name + data
        directory += DIRECTORY_ENTRY.pack(b"PK\1\2", *listed) + name
    return written + directory + END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), len(written), 0)


def zip64_directory(entries: int) -> bytes:
    """The old record says that there are two."""
    names = b"".join(
        DIRECTORY_ENTRY.pack(b"PK\1\2", NEWER, *header(b"", b"", {}), 9, 0, 0, 0, 0, FILE, 0) + b"w%08d" % number
        for number in range(entries)
    )
    start = archive((b"model.onnx", sound().SerializeToString()))
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, len(names), len(start))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(start) + len(names), 1)
    return start + names + record + locator + END.pack(b"PK\5\6", 0, 0, 2, 2, 200, len(start), 0)


def zips() -> Hostile:
    content = sound().SerializeToString()
    alone = (b"model.onnx", content)
    yield "zip, NUL in a name", archive((b"model.onnx\0.txt", content)), "the name"
    yield "zip, no name", archive(alone, (b"", b"1")), "the name"
    yield "zip, name of a wide path", zipped({"model.onnx": content, "．．／evil": b"1"}), "the name"
    yield "zip, name of an address", zipped({"model.onnx": content, ORT_MEMORY: b"1"}), "the name"
    twice = {"model.onnx": content, "\u00e9": b"1", "e\u0301": b"2"}
    yield "zip, a name twice but for its accents", zipped(twice), "two files"
    yield "zip, two names for one file", archive(alone, alone, position=0), "two files|damaged"
    yield "zip, strongly encrypted", archive(alone, flags=0x41), "encrypted"
    yield "zip, encrypted directory", archive(alone, flags=0x2000), "encrypted"
    yield "zip, encrypted behind its directory", archive(alone, local={"flags": 1}), "two different things"
    yield "zip, another size behind its directory", archive(alone, local={"size": 5}), "two different things"
    yield "zip, another method behind its directory", archive(alone, local={"method": 8}), "two different things"
    yield "zip, another sum behind its directory", archive(alone, local={"crc": 7}), "two different things"
    yield "zip, a wrong sum", archive(alone, crc=7), "damaged"
    yield "zip, beyond its end", archive(alone, position=10**6), "damaged"
    yield "zip, a size of 4 GiB", archive(alone, size=2**32 - 2), "unpacks to more|damaged"
    first = ENTRY.pack(b"PK\3\4", *header(b"", content, {}), 10, 0) + b"model.onnx"
    yield (
        "zip, a file inside another",
        archive((b"w", first + content), alone, position=31),
        "damaged|two different things",
    )
    yield "zip64 with more files than it says", zip64_directory(600), "more than 512 files"


def messages() -> Hostile:
    whole = sound().SerializeToString()
    graph = whole.index(b"\x3a")
    lying = whole[: graph + 1] + b"\xff\xff\xff\xff\x0f" + whole[graph + 2 :]
    yield "a graph of 4 GiB, it says", lying, "not one complete"
    yield "a number of eleven bytes", whole + b"\x08" + b"\xff" * 10 + b"\x01", "not one complete"
    yield "a fixed number cut off", b"\x08\x08" + field(7, field(1, field(5, b"\x3d\x00\x00"))), "not one complete"
    for label, added in {"a group": b"\x3b\x3c", "field 0": b"\x00\x01", "a field of none's": b"\xa8\x06\x01"}.items():
        yield f"a model and {label}", whole + added, "not one complete"
    evil = model([]).graph
    evil.node.add(op_type="Evil", domain="evil", input=["x"], output=["z"])
    yield "a second graph behind the first", whole + field(7, evil.SerializeToString()), "not a domain of ONNX"
    yield "a name that is no text", whole.replace(b"graph", b"\xff\xfe\xfd\xfc\xfb"), "not UTF-8"


def outside() -> Hostile:
    """External data that one reader would find elsewhere than another."""
    for label, offset in {
        "with an underscore": "0_0",
        "with a space": " 0",
        "in other digits": "\u0660",
        "with a sign": "+0",
        "of 5000 digits": "9" * 5000,
        "that is none": "",
    }.items():
        yield f"external data, an offset {label}", external(files=True, offset=offset), "not in 'weights' where"
    yield "external data, a length of none", external(files=True, length=""), "not in 'weights' where"
    elsewhere = model([])
    weights = elsewhere.graph.initializer.add(name="w", data_type=1, dims=[3], data_location=1)
    for location in ("weights", "/etc/passwd"):
        weights.external_data.add(key="location", value=location)
    twice = zipped({"model.onnx": elsewhere.SerializeToString(), "weights": bytes(12)})
    yield "external data in two places", twice, "not in 'weights' where"
    yield "external data at an address", external(location=ORT_MEMORY, offset=4096), "in another file"
    shared = model([])
    for number in range(3):
        weights = shared.graph.initializer.add(name=f"w{number}", data_type=1, dims=[10**6], data_location=1)
        weights.external_data.add(key="location", value="weights")
    over = zipped({"model.onnx": shared.SerializeToString(), "weights": bytes(4 * 10**6)})
    yield "external data over and over", over, "12000000 bytes of weights out of files that have 4000000"


def formats() -> Hostile:
    for label, content in {
        "XGBoost": json.dumps({"learner": {"gradient_booster": {"name": "gbtree"}}, "version": [2, 0, 0]}).encode(),
        "XGBoost in binary JSON": b"{L" + struct.pack(">Q", 7) + b"learner{L",
        "LightGBM": b"tree\nversion=v4\nnum_class=1\n",
        "CatBoost": b"CBM1" + bytes(100),
        "PMML": b'<?xml version="1.0"?>\n<PMML version="4.4"></PMML>',
    }.items():
        yield label, content, "XGBoost, LightGBM or CatBoost"
    yield "pickle, protocol 1", b"c__builtin__\nexec\nq\x00(X\x04\x00\x00\x00evilq\x01tq\x02Rq\x03.", "pickle"
    yield "joblib, compressed", b"\x78\x9c" + zlib.compress(b"pickle")[2:], "compressed file"
    yield "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"
    yield "onnxruntime's own format", struct.pack("<L", 24) + b"ORTM" + bytes(100), "onnxruntime's own format"
    yield "saved_model.pb alone", b"\x08\x01\x12\x04\x0a\x02\x22\x00", "without its folder"
    yield "zip of pytorch_model.bin", zipped({"pytorch_model.bin": b"1", "config.json": b"{}"}), "PyTorch"
    yield "PyTorch exported program", zipped({"m/archive_format": b"pt2", "m/models/model.json": b"{}"}), "PyTorch"


def everything() -> list[tuple[str, bytes, str]]:
    return [each for kind in (zips, messages, outside, formats) for each in kind()]
