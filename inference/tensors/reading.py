"""From what a caller sent (JSON or base64) to a Tensor.

Everything that a size can be computed from is checked before anything is allocated. Every failure is a
ValidationProblem whose path names the field, down to the element: `input.inputs.0.data.3`.
"""

import binascii
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.tensors.datatypes import (
    FLOATS,
    FORMATS,
    MAX_RANK,
    MAX_TENSOR_BYTES,
    STORAGE,
    Datatype,
    bfloat16_bits,
    bfloat16_values,
)
from inference.tensors.tensor import Tensor
from marketplace.errors import ValidationProblem

LENGTH_PREFIX_BYTES = 4
# Up to here, numpy takes longer to begin than to do its work.
FEW = 64


def shown(value: object) -> str:
    """A value as a message may show it: short, printable, and cheap to write whatever was sent."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else "a number of more than 38 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:59] + "…")
    return "an object" if isinstance(value, dict) else "a list"


def parse_shape(shape: object, datatype: Datatype, *, path: str, limit: int = MAX_TENSOR_BYTES) -> tuple[int, ...]:
    """The shape of a tensor of at most `limit` bytes; `path` is the shape's own."""
    if not isinstance(shape, list | tuple):
        raise ValidationProblem(f"A shape is a list of integers, not {shown(shape)}.", path=path)
    if len(shape) > MAX_RANK:
        raise ValidationProblem(f"A shape has at most {MAX_RANK} dimensions, not {len(shape)}.", path=path)
    for position, size in enumerate(shape):
        if type(size) is not int:
            raise ValidationProblem(f"A dimension is an integer, not {shown(size)}.", path=f"{path}.{position}")
        if size < 0:
            raise ValidationProblem(f"A dimension is at least 0, not {shown(size)}.", path=f"{path}.{position}")
        if size > limit:
            raise ValidationProblem(f"A dimension is at most {limit}, not {shown(size)}.", path=f"{path}.{position}")
    smallest = prod(shape) * (datatype.size or LENGTH_PREFIX_BYTES)
    if smallest > limit:
        raise ValidationProblem(f"A tensor has at most {limit} bytes; this shape needs {shown(smallest)}.", path=path)
    return tuple(shape)


def parse(
    name: str,
    datatype: Datatype,
    shape: object,
    *,
    data: object = None,
    base64: object = None,
    content: bytes | None = None,
    nonfinite: bool = False,
    path: str,
    limit: int = MAX_TENSOR_BYTES,
) -> Tensor:
    """One tensor from exactly one of `data` (nested or flat row-major JSON), `base64`, and raw bytes as `content`.

    `nonfinite`: `data` may have NaN and infinity. `path` is the tensor's own, as in `input.inputs.0`. `limit` in bytes
    of content.
    """
    dimensions = parse_shape(shape, datatype, path=f"{path}.shape", limit=limit)
    if content is not None:
        check_content(content, datatype, prod(dimensions), path=path)
        if len(content) > limit:
            raise ValidationProblem(f"A tensor has at most {limit} bytes, not {len(content)}.", path=path)
        return Tensor(name, datatype, dimensions, content)
    if (data is None) == (base64 is None):
        given = "neither" if data is None else "both"
        raise ValidationProblem(f"Give exactly one of 'data' and 'base64', not {given}.", path=path)
    if base64 is not None:
        content = _decode_base64(base64, datatype, prod(dimensions), f"{path}.base64", limit)
    else:
        content = _encode_data(data, datatype, dimensions, f"{path}.data", limit, nonfinite=nonfinite)
    return Tensor(name, datatype, dimensions, content)


def check_content(content: bytes, datatype: Datatype, count: int, *, path: str) -> None:
    """Raw bytes are what `count` elements of the datatype look like."""
    if datatype is Datatype.BYTES:
        _check_length_prefixes(content, count, path)
    elif len(content) != count * STORAGE[datatype].itemsize:
        expected = count * STORAGE[datatype].itemsize
        raise ValidationProblem(
            f"The shape holds {count} elements of {datatype}: expected {expected} bytes, got {len(content)}.", path=path
        )
    elif datatype is Datatype.BOOL and content.translate(None, b"\x00\x01"):
        raise ValidationProblem("An element of BOOL is the byte 0 or the byte 1.", path=path)


def _check_length_prefixes(content: bytes, count: int, path: str) -> None:
    position = 0
    for element in range(count):
        start = position + LENGTH_PREFIX_BYTES
        if start > len(content):
            raise ValidationProblem(
                f"Expected {count} elements of BYTES, each behind its 4-byte length; the bytes end in or before the "
                f"length of element {element}.",
                path=path,
            )
        position = start + int.from_bytes(content[position:start], "little")
        if position > len(content):
            raise ValidationProblem(
                f"Element {element} says that it has {position - start} bytes; {len(content) - start} follow.",
                path=path,
            )
    if position != len(content):
        raise ValidationProblem(f"{len(content) - position} bytes follow the last of {count} elements.", path=path)


def _decode_base64(text: object, datatype: Datatype, count: int, path: str, limit: int) -> bytes:
    if not isinstance(text, str):
        raise ValidationProblem(f"Expected a string in base64, got {shown(text)}.", path=path)
    most = limit if datatype.size is None else count * datatype.size
    if len(text) > (most + 2) // 3 * 4:
        raise ValidationProblem(f"Expected at most {most} bytes in base64, got {len(text)} characters.", path=path)
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValidationProblem(
            "This is not base64 (RFC 4648, section 4, with its padding and nothing between).", path=path
        ) from error
    check_content(content, datatype, count, path=path)
    return content


def _encode_data(
    data: object, datatype: Datatype, shape: tuple[int, ...], path: str, limit: int, *, nonfinite: bool
) -> bytes:
    elements, nested = _flatten(data, shape, path)

    def place(index: int) -> str:
        """The path of element `index`, counted row-major, as the caller wrote it."""
        if not shape:
            return path
        return ".".join(map(str, (path, *(np.unravel_index(index, shape) if nested else (index,)))))

    if datatype is Datatype.BYTES:
        return _encode_strings(elements, place, limit, path)
    if datatype in FLOATS:
        return _encode_floats(elements, datatype, place, nonfinite=nonfinite)
    return _encode_integers(elements, datatype, place)


def _flatten(data: object, shape: tuple[int, ...], path: str) -> tuple[Sequence[Any], bool]:
    """The elements in row-major order, and whether they came nested by shape.

    It goes as deep as the shape, whatever the depth of the data.
    """
    count = prod(shape)
    if not isinstance(data, list | tuple):
        if not shape:
            return [data], False
        raise ValidationProblem(f"Expected a list of {count} elements, got {shown(data)}.", path=path)
    if len(shape) < 2 or not data or not isinstance(data[0], list | tuple):
        if len(data) != count:
            raise ValidationProblem(f"The shape holds {count} elements; got {len(data)}.", path=path)
        return data, False
    level: Sequence[Any] = [data]
    for depth, size in enumerate(shape):
        # Two sets tell in one go what is true of every list; only a failure is looked for one by one.
        if not set(map(type, level)) <= {list, tuple} or not set(map(len, level)) <= {size}:
            for index, entry in enumerate(level):
                if not isinstance(entry, list | tuple) or len(entry) != size:
                    got = f"a list of {len(entry)}" if isinstance(entry, list | tuple) else shown(entry)
                    place = ".".join(map(str, (path, *np.unravel_index(index, shape[:depth])) if depth else (path,)))
                    raise ValidationProblem(f"Expected a list of {size}, as the shape says; got {got}.", path=place)
        level = list(chain.from_iterable(level))
    return level, True


def _encode_integers(elements: Sequence[Any], datatype: Datatype, place: Callable[[int], str]) -> bytes:
    expected = bool if datatype is Datatype.BOOL else int
    # A set of types, since a bool is an int to isinstance and to numpy, and a string a number to numpy.
    if set(map(type, elements)) <= {expected}:
        try:
            return np.array(elements, dtype=STORAGE[datatype]).tobytes()
        except OverflowError:
            pass
    kind = "true or false" if datatype is Datatype.BOOL else "an integer"
    for index, element in enumerate(elements):
        if type(element) is not expected:
            raise ValidationProblem(f"Expected {kind} for {datatype}, got {shown(element)}.", path=place(index))
        if expected is int:
            bounds = np.iinfo(STORAGE[datatype].name)
            if not bounds.min <= element <= bounds.max:
                raise ValidationProblem(
                    f"{datatype} goes from {bounds.min} to {bounds.max}; got {shown(element)}.", path=place(index)
                )
    raise AssertionError("numpy refused integers that are in range")


def _encode_floats(
    elements: Sequence[Any], datatype: Datatype, place: Callable[[int], str], *, nonfinite: bool
) -> bytes:
    if not set(map(type, elements)) <= {int, float}:
        for index, element in enumerate(elements):
            if type(element) not in (int, float):
                raise ValidationProblem(f"Expected a number for {datatype}, got {shown(element)}.", path=place(index))
    if len(elements) <= FEW and datatype is not Datatype.BF16:
        # The sum is finite only if each of them is. What does not fit is looked for below.
        with suppress(OverflowError, struct.error):
            if isfinite(sum(elements)):
                return struct.pack(f"<{len(elements)}{FORMATS[datatype]}", *elements)
    try:
        wide = np.array(elements, dtype=np.float64)
    except OverflowError:
        wide = np.array([_as_float(element) for element in elements], dtype=np.float64)
    narrow: NDArray[Any]
    with np.errstate(over="ignore"):
        if datatype is Datatype.BF16:
            narrow = bfloat16_bits(wide.astype(np.float32))
            taken = np.isfinite(bfloat16_values(narrow))
        else:
            narrow = wide.astype(STORAGE[datatype])
            taken = np.isfinite(narrow)
    if nonfinite:
        taken |= ~np.isfinite(wide)
    if not taken.all():
        index = int(np.argmin(taken))
        if np.isfinite(wide[index]):
            message = f"{shown(elements[index])} does not fit {datatype}."
        else:
            message = f"Expected a finite number for {datatype}, got {shown(elements[index])}; send others as base64."
        raise ValidationProblem(message, path=place(index))
    return narrow.tobytes()


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _encode_strings(elements: Sequence[Any], place: Callable[[int], str], limit: int, path: str) -> bytes:
    encoded: list[bytes] = []
    size = 0
    for index, element in enumerate(elements):
        if type(element) is not str:
            raise ValidationProblem(f"Expected a string for BYTES, got {shown(element)}.", path=place(index))
        try:
            encoded.append(element.encode())
        except UnicodeEncodeError as error:
            raise ValidationProblem(
                "This string has half of a surrogate pair, which is not Unicode text.", path=place(index)
            ) from error
        size += LENGTH_PREFIX_BYTES + len(encoded[-1])
        if size > limit:
            raise ValidationProblem(f"A tensor has at most {limit} bytes; these strings have more.", path=path)
    return b"".join(chain.from_iterable((len(text).to_bytes(LENGTH_PREFIX_BYTES, "little"), text) for text in encoded))
