"""Whatever a body holds, it is a request or a ValidationProblem that names what is wrong, and nothing else."""

import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.dataplane.rest_v2 import requests
from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.errors import ValidationProblem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ("name", "datatype", "shape", "data", "parameters")
OPTIONS = (
    "binary_data_size",
    "binary_data",
    "binary_data_output",
    "classification",
    "timeout",
    "shared_memory_region",
)


def sometimes(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    options = st.dictionaries(st.sampled_from(OPTIONS), JSON, max_size=3)
    return st.fixed_dictionaries(
        {}, optional={name: options | JSON if name == "parameters" else JSON for name in names}
    )


TENSORS = st.lists(sometimes(*MEMBERS) | JSON, max_size=3)
REQUESTS = st.fixed_dictionaries(
    {"inputs": TENSORS | JSON},
    optional={"id": JSON, "outputs": TENSORS | JSON, "parameters": sometimes(*OPTIONS) | JSON},
)


@given(REQUESTS | JSON, st.binary(max_size=8), st.sampled_from((None, "exact")) | st.binary(max_size=5))
def test_any_json_is_read_or_refused(message: Any, tail: bytes, length: Any) -> None:
    head = json.dumps(message).encode()
    with suppress(ValidationProblem):
        requests.read(head + tail, str(len(head)).encode() if length == "exact" else length)


@given(st.binary(max_size=40), st.none() | st.binary(max_size=5))
def test_any_bytes_are_read_or_refused(body: bytes, length: bytes | None) -> None:
    with pytest.raises(ValidationProblem):
        requests.read(body, length)


def test_binary_tensors_follow_the_json_in_their_order() -> None:
    head = json.dumps(
        {
            "id": "7",
            "inputs": [
                {"name": "A", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
                {"name": "B", "datatype": "FP32", "shape": [1], "data": [2.25]},
                {"name": "C", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
            ],
            "outputs": [{"name": "S", "parameters": {"binary_data": True}}, {"name": "T"}, {"name": "S"}],
            "parameters": {"timeout": 1_500_000, "temperature": 0.5, "binary_data_output": False},
        }
    ).encode()

    request = requests.read(head + b"\x00\x00\xc0\x3f" + b"\x01\x02", str(len(head)).encode())

    assert [tensor.content for tensor in request.inputs] == [b"\x00\x00\xc0\x3f", None, b"\x01\x02"]
    assert request.inputs[1].data == [2.25]
    assert (request.id, request.timeout, request.parameters) == ("7", 1.5, {"temperature": 0.5})
    assert (request.outputs, request.binary, request.binary_by_default) == (["S", "T"], {"S": True}, False)


def signature(datatype: Datatype, *shape: int) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), ())


@pytest.mark.parametrize(
    ("spec", "body", "shape"),
    [
        (signature(Datatype.FP32, -1, 3), bytes(24), [2, 3]),
        (signature(Datatype.FP32, 2, 3), bytes(24), [2, 3]),
        (signature(Datatype.FP32, -1, 3), b"", [0, 3]),
    ],
)
def test_the_shape_of_a_body_without_json_follows_from_its_size(spec: Signature, body: bytes, shape: list[int]) -> None:
    (tensor,) = requests.raw(body, spec).inputs

    assert (tensor.shape, tensor.content) == (shape, body)


def test_a_body_without_json_may_be_one_string() -> None:
    (tensor,) = requests.raw(b"hello", signature(Datatype.BYTES, 1)).inputs

    assert (tensor.shape, tensor.content) == ([1], struct.pack("<I", 5) + b"hello")


@pytest.mark.parametrize(
    "spec",
    [
        signature(Datatype.FP32, -1, -1),
        signature(Datatype.BYTES, 2),
        Signature((), ()),
        Signature((TensorSpec("x", Datatype.FP32, (1,)), TensorSpec("y", Datatype.FP32, (1,))), ()),
    ],
)
def test_a_body_without_json_is_refused_where_its_shape_does_not_follow(spec: Signature) -> None:
    with pytest.raises(ValidationProblem):
        requests.raw(bytes(4), spec)
