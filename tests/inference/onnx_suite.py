"""The ONNX project's backend tests (onnx.backend.test, node cases): models with inputs, outputs and tolerances."""

import base64
import functools
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from inference.formats import DATATYPES
from inference.tensors import Datatype
from inference.tensors.datatypes import STORAGE, bfloat16_values

# Answers that onnxruntime 1.31 gives differently than the suite has them, wherever it runs.
ONNXRUNTIME_DIFFERS = re.compile(
    r"test_(dft|stft|resize_downsample_scales_(linear|cubic)_align_corners$|convinteger_with_padding$"
    r"|reduce_max_empty_set_bool$)"
)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    rtol: float
    atol: float

    def variables(self) -> list[dict[str, Any]]:
        """The inputs as `invokeModel` takes them."""
        fed = zip(self.model.graph.input, self.inputs, strict=False)
        return [_tensor_input(value, np.asarray(array)) for value, array in fed]

    def differences(self, answered: Sequence[dict[str, Any]]) -> str:
        """What is wrong with outputs as `invokeModel` gives them; "" for nothing."""
        if [output["name"] for output in answered] != [output.name for output in self.model.graph.output]:
            return f"other outputs: {[output['name'] for output in answered]}"
        for output, expected in zip(answered, self.outputs, strict=True):
            try:
                _compare(_array(output), np.asarray(expected), self.rtol, self.atol)
            except AssertionError as error:
                return f"{output['name']}: {error}"
        return ""


@functools.cache
def cases() -> tuple[Case, ...]:
    """All 1,884 of them, always in the same order; their inputs are seeded. Takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose
        # Importing the module is what makes the cases.
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415

        made = collect_testcases(None)
    return tuple(
        Case(each.name, each.model, tuple(map(_plain, inputs)), tuple(map(_plain, outputs)), each.rtol, each.atol)
        for each in sorted(made, key=lambda each: str(each.name))
        for inputs, outputs in list(each.data_sets or [])[:1]
    )


def _plain(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _tensor_input(value: onnx.ValueInfoProto, array: NDArray[Any]) -> dict[str, Any]:
    datatype = DATATYPES[value.type.tensor_type.elem_type]
    content = b"".join(_strings(array)) if datatype is Datatype.BYTES else array.tobytes()
    return {
        "name": value.name,
        "datatype": datatype.value,
        "shape": list(array.shape) or [1],
        "base64": base64.b64encode(content).decode(),
    }


def _strings(array: NDArray[Any]) -> Iterator[bytes]:
    for element in array.ravel().tolist():
        text = element if isinstance(element, bytes) else str(element).encode()
        yield struct.pack("<I", len(text)) + text


def _array(output: dict[str, Any]) -> NDArray[Any]:
    content, datatype = base64.b64decode(output["base64"]), Datatype(output["datatype"])
    if datatype is Datatype.BYTES:
        return _texts(content).reshape(output["shape"])
    values: NDArray[Any] = np.frombuffer(content, STORAGE[datatype])
    return (bfloat16_values(values) if datatype is Datatype.BF16 else values).reshape(output["shape"])


def _texts(content: bytes) -> NDArray[Any]:
    texts, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from("<I", content, position)
        texts.append(content[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return np.array(texts, object)


def _compare(found: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float) -> None:
    if expected.shape == () and found.shape == (1,):  # Triton knows no tensor without dimensions
        found = found.reshape(())
    assert found.shape == expected.shape, f"{found.shape} instead of {expected.shape}"
    if expected.dtype.kind in "OUST":
        assert [str(each) for each in found.ravel()] == [
            each.decode() if isinstance(each, bytes) else str(each) for each in expected.ravel()
        ]
    elif expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol)
