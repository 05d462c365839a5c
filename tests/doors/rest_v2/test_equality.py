"""Answers are direct Triton's, bit for bit: every datatype, empty tensors, scalars, and every demo model."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.tensors import Datatype, Tensor
from inference.tensors.datatypes import STORAGE
from tests.doors.rest_v2.messages import Answer, message, ours, output, same, tensor
from tests.doors.site import Site

CATALOGUE = Path(__file__).parents[3] / "demo/catalogue"
IDENTITY = "openlab/identity"
DATATYPES = [each for each in Datatype if each is not Datatype.BF16]
# Triton knows neither as JSON.
WITHOUT_JSON = {Datatype.FP16, Datatype.BF16}
TEXTS = (b"", "é€😀".encode(), b'a\0b"\\/\x1f', b"\0", b" x ", b"y" * 70_000)


def content(datatype: Datatype, rows: int) -> bytes:
    """Of `rows` x 2 elements: any bits there are, NaN and subnormal numbers among them."""
    if datatype is Datatype.BYTES:
        return b"".join(struct.pack("<I", len(text)) + text for text in TEXTS[: rows * 2])
    bits = np.random.default_rng(11).bytes(rows * 2 * STORAGE[datatype].itemsize)
    return bytes(byte & 1 for byte in bits) if datatype is Datatype.BOOL else bits


def tensors(rows: int) -> list[Tensor]:
    return [Tensor(f"in_{each}", each, (rows, 2), content(each, rows)) for each in DATATYPES]


@pytest.mark.parametrize("rows", [3, 1, 0])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_binary_tensors_come_through(site: Site, datatype: Datatype, rows: int) -> None:
    asked = [output(f"out_{datatype}", binary_data=True)]

    answer = same(site, IDENTITY, *message(tensors(rows), asked))

    assert answer.contents == content(datatype, rows)


@pytest.mark.parametrize("rows", [3, 0])
def test_bfloat16_comes_through(site: Site, rows: int) -> None:
    sent = Tensor("in_BF16", Datatype.BF16, (rows, 2), content(Datatype.BF16, rows))

    answer = same(site, "openlab/identity-bf16", *message([sent], parameters={"binary_data_output": True}))

    assert answer.contents == sent.content


@pytest.mark.parametrize("rows", [3, 0])
@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each not in WITHOUT_JSON])
def test_a_binary_tensor_is_answered_as_json(site: Site, datatype: Datatype, rows: int) -> None:
    same(site, IDENTITY, *message(tensors(rows), [output(f"out_{datatype}")]))


JSON: dict[Datatype, list[Any]] = {
    Datatype.BOOL: [True, False],
    Datatype.UINT8: [0, 255],
    Datatype.UINT16: [0, 2**16 - 1],
    Datatype.UINT32: [0, 2**32 - 1],
    Datatype.UINT64: [0, 2**64 - 1],
    Datatype.INT8: [-128, 127],
    Datatype.INT16: [-(2**15), 2**15 - 1],
    Datatype.INT32: [-(2**31), 2**31 - 1],
    Datatype.INT64: [-(2**63), 2**63 - 1],
    # Infinity and NaN as Triton names them in JSON, which has neither.
    Datatype.FP32: [0.1, -float("inf")],
    Datatype.FP64: [1.7e308, float("nan")],
    Datatype.BYTES: ["", 'é€😀\0"\\/\x1f'],
}


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
@pytest.mark.parametrize("datatype", JSON)
def test_json_is_read_and_written(site: Site, datatype: Datatype, nested: bool) -> None:
    data = [JSON[datatype]] if nested else JSON[datatype]
    others = [each for each in tensors(1) if each.datatype is not datatype]
    sent = [*others, tensor(f"in_{datatype}", datatype.value, [1, 2], data)]

    same(site, IDENTITY, *message(sent, [output(f"out_{datatype}")]))
    binary = same(site, IDENTITY, *message(sent, [output(f"out_{datatype}", binary_data=True)]))

    if datatype is not Datatype.BYTES:
        assert binary.contents == np.array(JSON[datatype], STORAGE[datatype]).tobytes()


def test_half_precision_travels_as_json_too_which_triton_refuses(site: Site) -> None:
    sent = tensor("in_BF16", "BF16", [1, 2], [1.5, -2.0])

    answer = ours(site, "openlab/identity-bf16", *message([sent]))

    assert answer.message["outputs"] == [{"name": "out_BF16", "datatype": "BF16", "shape": [1, 2], "data": [1.5, -2.0]}]


def test_scalars_have_one_dimension(site: Site) -> None:
    scalar = Tensor("in_FP32", Datatype.FP32, (1,), struct.pack("<f", 0.1))

    answer = same(site, "openlab/scalar", *message([scalar]))

    assert answer.message["outputs"][0]["shape"] == [1]


def test_some_outputs_are_binary_and_some_are_json(site: Site) -> None:
    asked = [output("out_INT8"), output("out_FP16", binary_data=True), output("out_BYTES", binary_data=True)]

    answer = same(site, IDENTITY, *message(tensors(1), asked))

    assert answer.contents == content(Datatype.FP16, 1) + content(Datatype.BYTES, 1)


def example(model: str) -> list[dict[str, Any]]:
    described = json.loads((CATALOGUE / model / "model.json").read_text())["inputs"]
    return [
        tensor(
            each["name"],
            "BYTES" if each["contentType"] == "text/plain" else "FP32",
            each["exampleShape"],
            each["example"],
        )
        for each in described
    ]


@pytest.mark.parametrize("model", ["add", "digits", "minilm", "sentiment", "tumour"])
def test_demo_models_answer_as_on_triton(site: Site, model: str) -> None:
    def check(answer: Answer) -> None:
        assert answer.status == 200
        assert answer.message["outputs"]

    check(same(site, f"openlab/{model}", *message(example(model))))
    check(same(site, f"openlab/{model}", *message(example(model), parameters={"binary_data_output": True})))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_large_tensors_come_through(site: Site, binary: bool) -> None:
    count = 300_000
    numbers = np.random.default_rng(2).normal(size=count).astype(np.float32)
    operands = [Tensor("A", Datatype.FP32, (count,), numbers.tobytes()), tensor("B", "FP32", [count], [0.5] * count)]

    answer = same(site, "openlab/add", *message(operands, parameters={"binary_data_output": binary}))

    if binary:
        assert answer.contents == (numbers + np.float32(0.5)).tobytes()


def test_a_body_without_json_is_the_models_one_input(site: Site) -> None:
    answer = same(site, "openlab/lookup", struct.pack("<qq", 2, 0), {"Inference-Header-Content-Length": "0"})

    assert answer.contents == struct.pack("<ff", 3, 1)
