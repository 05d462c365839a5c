"""A protobuf message measured before it is parsed: a few bytes of it can stand for thousands of objects in memory.

The wire format: protobuf.dev/programming-guides/encoding.
"""

import re
from typing import Any

from .refusal import Refused

MAX_DEPTH = 64
MAX_MESSAGES = 250_000
# Of a run of numbers so many bytes count as one.
MAX_FIELDS, RUN_BYTES = 2_000_000, 64

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
FIXED = {FIXED64: 8, FIXED32: 4}
NUMBERS = {VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", FIXED64: rb".{8}", FIXED32: rb".{4}"}
# By its key, the same field over and over, as lists of numbers are written that are not packed.
RUNS = {
    key: re.compile(b"(?:%b%b)++" % (re.escape(bytes([key])), NUMBERS[key & 7]), re.DOTALL)
    for key in range(8, 0x80)
    if key & 7 in NUMBERS
}

DAMAGED = Refused(
    "This is not an ONNX model, or it is damaged: it is not one complete protobuf message of onnx.proto.",
    "Check the file with `python -m onnx.checker model.onnx` or `onnx.checker.check_model`, and upload it again.",
)
TOO_MANY = Refused(
    f"The model's description has more than {MAX_MESSAGES} parts, or more than {MAX_FIELDS} fields in them.",
    "Simplify the model, with onnxsim for example, and keep tables in tensors.",
)
NO_TEXT = Refused("A name in the model is not UTF-8 text.", "Name the model's tensors and nodes in plain letters.")


def measure(message: memoryview, descriptor: Any) -> None:
    """Walks through the messages inside, without recursion. Raises Refused for what is too deep or too much.

    `descriptor`: the message's google.protobuf Descriptor.
    """
    kinds: dict[str, dict[int, Any]] = {}

    def messages_of(each: Any) -> dict[int, Any]:
        """Field number -> the descriptor of the message in it, or whether it is text."""
        if each.full_name not in kinds:
            kinds[each.full_name] = {
                field.number: field.message_type or field.type == field.TYPE_STRING for field in each.fields
            }
        return kinds[each.full_name]

    waiting = [(0, len(message), descriptor, 1)]
    messages = fields = 0
    while waiting:
        position, end, kind, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Refused(
                f"The model is nested more than {MAX_DEPTH} messages deep.",
                "Subgraphs of If, Loop and Scan may be nested a few levels deep: flatten the model.",
            )
        known = messages_of(kind)
        while position < end:
            if run := RUNS.get(message[position]):
                found = run.match(message, position, end)
                if found is None or (depth == 1 and message[position] >> 3 not in known):
                    raise DAMAGED
                run_bytes, position = found.end() - position, found.end()
                fields = _counted(fields + run_bytes // RUN_BYTES)
                continue
            fields = _counted(fields)
            key, position = _varint(message, position, end)
            number, wire_type = key >> 3, key & 7
            if wire_type == VARINT:
                _value, position = _varint(message, position, end)
            elif wire_type in FIXED:
                position += FIXED[wire_type]
            elif wire_type == LENGTH_DELIMITED:
                length, position = _varint(message, position, end)
                inner = known.get(number)
                if inner is True:
                    _check_text(message[position : position + length])
                elif inner:
                    messages += 1
                    if messages > MAX_MESSAGES:
                        raise TOO_MANY
                    waiting.append((position, position + length, inner, depth + 1))
                position += length
            else:
                raise DAMAGED
            if position > end or number == 0 or (depth == 1 and number not in known):
                raise DAMAGED


def _counted(fields: int) -> int:
    if fields >= MAX_FIELDS:
        raise TOO_MANY
    return fields + 1


def _check_text(content: memoryview) -> None:
    try:
        str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise NO_TEXT from error


def _varint(message: memoryview, position: int, end: int) -> tuple[int, int]:
    if position < end and message[position] < 0x80:
        return message[position], position + 1
    value = 0
    for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
        if position >= end:
            raise DAMAGED
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DAMAGED
