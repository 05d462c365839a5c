"""Between the protocol's messages and calls: tensors stay the bytes that they are."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from django.utils.translation import gettext as _
from google.protobuf.message import DecodeError, Message

from inference.oip import InferTensorContents, ModelInferRequest, ModelInferResponse
from inference.tensors import RawTensor, Tensor
from marketplace.errors import InferenceFailed, NotFound, ValidationProblem

M = TypeVar("M", bound=Message)

MOST_VERSION = 2**31 - 1
FINAL_ASKED = "triton_enable_empty_final_response"
FINAL = "triton_final_response"


def parsed(kind: type[M], content: bytes) -> M:
    """Raises InferenceFailed, whose status is Triton's own for what is no message."""
    try:
        message: M = kind.FromString(content)
    except DecodeError as error:
        raise InferenceFailed(_("This is not a message of the Open Inference Protocol.")) from error
    return message


class Question(NamedTuple):
    """`call`: what `invoke` is given. `classes`: by output, how many are asked for in its place."""

    call: dict[str, Any]
    classes: dict[str, int]


def question_of(message: ModelInferRequest) -> Question:
    """Raises ValidationProblem whose path names the field, NotFound for a version that cannot be.

    `timeout`, in seconds, is the parameter of that name, which is in microseconds.
    """
    outputs, classes = [], {}
    for position, output in enumerate(message.outputs):
        _check_parameters(output, f"input.outputs.{position}.parameters")
        outputs.append(output.name)
        if "classification" in output.parameters:
            # 0 where it is of another kind.
            most = output.parameters["classification"].int64_param
            if most < 1:
                raise ValidationProblem(
                    _("Expected how many classes to name."), path=f"input.outputs.{position}.parameters.classification"
                )
            classes[output.name] = most
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in message.parameters.items()
    }
    parameters.pop(FINAL_ASKED, None)
    microseconds = parameters.pop("timeout", None)
    call = {
        "ref": message.model_name,
        "version": version_of(message.model_version),
        "inputs": _inputs(message),
        # A name that is asked for twice is answered once, as Triton does.
        "outputs": list(dict.fromkeys(outputs)) or None,
        "parameters": parameters or None,
        "timeout": _seconds(microseconds),
    }
    return Question(call, classes)


def version_of(text: str) -> int | None:
    """None, the live one, for "". Raises ValidationProblem for what is no number, NotFound for one that cannot be."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValidationProblem(_("A version is a whole number, such as 1."), path="input.model_version")
    if len(text) > len(str(MOST_VERSION)) or int(text) > MOST_VERSION:
        raise NotFound(_("This model has no such version."), path="input.model_version")
    return int(text)


def _seconds(microseconds: object) -> float | None:
    """As Triton has it, 0 is no deadline."""
    if microseconds is None or microseconds == 0:
        return None
    if type(microseconds) is not int or microseconds < 0:
        raise ValidationProblem(_("The timeout is a positive number of microseconds."), path="input.parameters.timeout")
    return microseconds / 1e6


def _inputs(message: ModelInferRequest) -> list[RawTensor]:
    contents = message.raw_input_contents
    inputs = []
    for position, tensor in enumerate(message.inputs):
        _check_parameters(tensor, f"input.inputs.{position}.parameters")
        typed = tensor.HasField("contents")
        if not contents:
            content = _packed(tensor.datatype, tensor.contents, f"input.inputs.{position}.contents") if typed else b""
        elif typed:
            raise ValidationProblem(
                _("Give the contents of all inputs in raw_input_contents, or of none."),
                path=f"input.inputs.{position}.contents",
            )
        elif position < len(contents):
            content = contents[position]
        else:
            raise ValidationProblem(
                _("There are no raw_input_contents for this input."), path=f"input.inputs.{position}"
            )
        inputs.append(RawTensor(tensor.name, tensor.datatype, list(tensor.shape), content=content))
    if len(contents) > len(inputs):
        raise ValidationProblem(_("There are more raw_input_contents than inputs."), path="input.raw_input_contents")
    return inputs


def _check_parameters(tensor: Any, path: str) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise ValidationProblem(_("There is no shared memory between us: send the tensor's contents."), path=path)


def _packed(datatype: str, contents: InferTensorContents, path: str) -> bytes:
    """Elements one by one, as the message types them, to the bytes that Triton makes of them."""
    kind = _KINDS.get(datatype)
    if kind is None:
        raise ValidationProblem(
            _("There are no typed contents for %(datatype)s: use raw_input_contents.") % {"datatype": datatype},
            path=path,
        )
    field, pack = kind
    others = [given.name for given, _value in contents.ListFields() if given.name != field]
    if others:
        raise ValidationProblem(
            _("The elements of %(datatype)s are in %(field)s, not in %(others)s.")
            % {"datatype": datatype, "field": field, "others": ", ".join(others)},
            path=path,
        )
    try:
        return pack(getattr(contents, field))
    except (struct.error, OverflowError) as error:
        raise ValidationProblem(
            _("An element does not fit %(datatype)s.") % {"datatype": datatype}, path=f"{path}.{field}"
        ) from error


def _numbers(code: str) -> Callable[[Sequence[float]], bytes]:
    return lambda values: struct.pack(f"<{len(values)}{code}", *values)


def _strings(values: Iterable[bytes]) -> bytes:
    return b"".join(part for value in values for part in (len(value).to_bytes(4, "little"), value))


_KINDS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "BOOL": ("bool_contents", bytes),
    "INT8": ("int_contents", _numbers("b")),
    "INT16": ("int_contents", _numbers("h")),
    "INT32": ("int_contents", _numbers("i")),
    "INT64": ("int64_contents", _numbers("q")),
    "UINT8": ("uint_contents", _numbers("B")),
    "UINT16": ("uint_contents", _numbers("H")),
    "UINT32": ("uint_contents", _numbers("I")),
    "UINT64": ("uint64_contents", _numbers("Q")),
    "FP32": ("fp32_contents", _numbers("f")),
    "FP64": ("fp64_contents", _numbers("d")),
    "BYTES": ("bytes_contents", _strings),
}


def answer_of(message: ModelInferRequest, version: int, outputs: Iterable[Tensor]) -> ModelInferResponse:
    answer = ModelInferResponse(model_name=message.model_name, model_version=str(version), id=message.id)
    for tensor in outputs:
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        answer.raw_output_contents.append(tensor.content)
    return answer
