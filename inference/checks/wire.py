"""A protobuf message measured before it is parsed: a few bytes of it can stand for thousands of objects in memory.

The wire format: protobuf.dev/programming-guides/encoding.
"""

from typing import Any

from .refusal import Refused

MAX_DEPTH = 64
MAX_MESSAGES = 250_000

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10

DAMAGED = Refused(
    "This is not an ONNX model, or it is damaged: it is not one complete protobuf message of onnx.proto.",
    "Check the file with `python -m onnx.checker model.onnx` or `onnx.checker.check_model`, and upload it again.",
)


def measure(message: memoryview, descriptor: Any) -> None:
    """Walks through the messages inside, without recursion. Raises Refused for what is too deep or too much.

    `descriptor`: the message's google.protobuf Descriptor.
    """
    kinds: dict[str, dict[int, Any]] = {}

    def messages_of(each: Any) -> dict[int, Any]:
        """Field number -> the descriptor of the message in it; what has none is None."""
        if each.full_name not in kinds:
            kinds[each.full_name] = {field.number: field.message_type for field in each.fields}
        return kinds[each.full_name]

    waiting = [(0, len(message), descriptor, 1)]
    messages = 0
    while waiting:
        position, end, kind, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Refused(
                f"The model is nested more than {MAX_DEPTH} messages deep.",
                "Subgraphs of If, Loop and Scan may be nested a few levels deep: flatten the model.",
            )
        known = messages_of(kind)
        while position < end:
            key = message[position]
            if key < 0x80:
                position += 1
            else:
                key, position = _varint(message, position, end)
            number, wire_type = key >> 3, key & 7
            if wire_type == VARINT:
                # Lists of numbers can be long, and most of them are small.
                if position < end and message[position] < 0x80:
                    position += 1
                else:
                    _value, position = _varint(message, position, end)
            elif wire_type == FIXED64:
                position += 8
            elif wire_type == FIXED32:
                position += 4
            elif wire_type == LENGTH_DELIMITED:
                length, position = _varint(message, position, end)
                inner = known.get(number)
                if inner is not None:
                    messages += 1
                    if messages > MAX_MESSAGES:
                        raise Refused(
                            f"The model's description has more than {MAX_MESSAGES} parts.",
                            "Simplify the model, with onnxsim for example, and keep tables in tensors.",
                        )
                    waiting.append((position, position + length, inner, depth + 1))
                position += length
            else:
                raise DAMAGED
            if position > end or number == 0 or (depth == 1 and number not in known):
                raise DAMAGED


def _varint(message: memoryview, position: int, end: int) -> tuple[int, int]:
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
