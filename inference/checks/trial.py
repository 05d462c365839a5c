"""A run of the model on inputs that are made up: whether it loads, how long it takes, what it says.

Nobody knows what a publisher's model takes for granted of its inputs, so that a model which loads and then fails on
these is accepted all the same, and told so.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from .refusal import Refused

TOO_MUCH_MEMORY = Refused(
    "The model needs more memory than a trial of a model of its size may use.",
    "Look for operators that make large tensors out of small inputs (Expand, Tile, ConstantOfShape, Pad), and for "
    "fixed batch sizes that are larger than needed.",
)
MEMORY_WORDS = ("failed to allocate", "bad_alloc", "bad allocation", "out of memory", "cannot allocate memory")
MAX_INPUT_BYTES = 64 * 1024**2

# Element types as onnxruntime names them -> as numpy does. bfloat16 goes as its bits.
DTYPES: dict[str, Any] = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bfloat16)": np.uint16,
    "tensor(string)": np.object_,
}
BFLOAT16_HALF = 0x3F00


def load(model: bytes) -> onnxruntime.InferenceSession:
    """On one thread and the CPU. Raises Refused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes of errors are not part of its interface
        if is_about_memory(error):
            raise TOO_MUCH_MEMORY from error
        raise Refused(
            f"onnxruntime does not load the model: {said(error)}",
            "Try `onnxruntime.InferenceSession('model.onnx')`, and export the model again with another opset, 17 say.",
        ) from error


def run(session: onnxruntime.InferenceSession, *, batched: bool) -> tuple[float, str]:
    """Seconds of the first run that went well, or else of the last, and what to note. Raises Refused."""
    failure, seconds = "", 0.0
    for integer in (1, 0):
        failure, seconds = _attempt(session, leading=1, integer=integer)
        if not failure:
            if batched:
                in_twos, _seconds = _attempt(session, leading=2, integer=integer)
                if in_twos:
                    return seconds, f"It runs on one made-up example and fails on a batch of two: {in_twos}"
            return seconds, "It runs on made-up inputs."
    return seconds, f"It loads, and fails on made-up inputs, which it may never get: {failure}"


def is_about_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in MEMORY_WORDS)


def said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _attempt(session: onnxruntime.InferenceSession, *, leading: int, integer: int) -> tuple[str, float]:
    started = time.perf_counter()
    try:
        feeds = {each.name: _made_up(each, leading=leading, integer=integer) for each in session.get_inputs()}
        types = {each.type for each in (*session.get_inputs(), *session.get_outputs())}
        if "tensor(bfloat16)" in types:
            session.run_with_ort_values(
                None, {each.name: _ort_value(feeds[each.name], each.type) for each in session.get_inputs()}
            )
        else:
            session.run(None, feeds)
    except Refused:
        raise
    except Exception as error:
        if is_about_memory(error):
            raise TOO_MUCH_MEMORY from error
        return said(error), time.perf_counter() - started
    return "", time.perf_counter() - started


def _made_up(argument: Any, *, leading: int, integer: int) -> Any:
    shape = _shape(argument.shape, leading)
    dtype = DTYPES[argument.type]
    if math.prod(shape) * np.dtype(dtype).itemsize > MAX_INPUT_BYTES:
        raise Refused(
            f"The input {argument.name[:100]!r} is {shape}, and a call carries {MAX_INPUT_BYTES} bytes at most.",
            "Export the model with a smaller input, or with a dynamic dimension in place of a fixed batch.",
        )
    if argument.type == "tensor(bfloat16)":
        return np.full(shape, BFLOAT16_HALF, np.uint16)
    if dtype is np.object_:
        return np.full(shape, "a", np.object_)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).random(shape).astype(dtype)
    return np.full(shape, integer, dtype)


def _shape(shape: Sequence[Any], leading: int) -> list[int]:
    """Dynamic dimensions are 1, a leading one is `leading`."""
    return [
        size if isinstance(size, int) and size >= 0 else leading if position == 0 else 1
        for position, size in enumerate(shape)
    ]


def _ort_value(values: Any, kind: str) -> onnxruntime.OrtValue:
    if kind == "tensor(bfloat16)":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(values, onnx.TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(values)
