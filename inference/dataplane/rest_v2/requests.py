"""From an `infer` request's body to what `invoke` takes: JSON, and behind it the contents of its binary tensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from django.utils.translation import gettext as _

from inference.tensors import Datatype, RawTensor, Signature
from marketplace.errors import ValidationProblem

MAX_ID_CHARACTERS = 1024
MAX_OUTPUTS = 1024
# Longer than any call may take; the setting bounds it anyway.
MAX_MICROSECONDS = 2**53

_decode = json.JSONDecoder().decode


@dataclass(slots=True)
class Request:
    """What `invoke` is given, and how the answer is to be written: `binary` and `classes` by output."""

    inputs: Sequence[RawTensor]
    id: str = ""
    outputs: list[str] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    binary_by_default: bool = False
    binary: dict[str, bool] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)


def read(body: bytes, header_length: bytes | None) -> Request:
    """`header_length`: of the JSON, as Inference-Header-Content-Length has it; None when the body is nothing else.

    Raises ValidationProblem.
    """
    end = len(body) if header_length is None else _length(header_length, len(body))
    text, message = _parsed(body, end)
    # No JSON, and read and written by Triton.
    nonfinite = "NaN" in text or "Infinity" in text
    tensors = message.get("inputs")
    if not isinstance(tensors, list):
        raise ValidationProblem(_("Expected a list of tensors."), path="input.inputs")
    inputs = []
    for position, tensor in enumerate(tensors):
        raw, end = _input(tensor, body, end, nonfinite, f"input.inputs.{position}")
        inputs.append(raw)
    if end != len(body):
        raise ValidationProblem(
            _("%(count)d bytes follow the last binary tensor.") % {"count": len(body) - end}, path="input.inputs"
        )
    request = Request(inputs)
    identifier = message.get("id", "")
    if type(identifier) is not str or len(identifier) > MAX_ID_CHARACTERS:
        raise ValidationProblem(
            _("An id is a string of at most %(most)d characters.") % {"most": MAX_ID_CHARACTERS}, path="input.id"
        )
    request.id = identifier
    if "parameters" in message:
        _read_parameters(request, message["parameters"])
    if "outputs" in message:
        _read_outputs(request, message["outputs"])
    return request


def raw(body: bytes, signature: Signature) -> Request:
    """A body that is nothing but the content of the model's one input. The outputs are binary."""
    if len(signature.inputs) != 1:
        raise ValidationProblem(
            _("A body without JSON is the one input of a model; this one has %(count)d.")
            % {"count": len(signature.inputs)},
            path="input.inputs",
        )
    (spec,) = signature.inputs
    shape, content = list(spec.shape), body
    if spec.datatype is Datatype.BYTES:
        if prod(shape) not in (1, -1) or len(shape) > 1:
            raise ValidationProblem(
                _("A body without JSON is one string; the model's input has the shape %(shape)s.") % {"shape": shape},
                path="input.inputs.0.shape",
            )
        shape, content = [1] * len(shape), len(body).to_bytes(4, "little") + body
    elif shape.count(-1) > 1:
        raise ValidationProblem(
            _("The shape does not follow from the body where more than one dimension is open: %(shape)s.")
            % {"shape": shape},
            path="input.inputs.0.shape",
        )
    elif -1 in shape:
        size = spec.datatype.size or 1
        others = prod(each for each in shape if each != -1) * size
        shape[shape.index(-1)] = len(body) // others if others else 0
    tensor = RawTensor(spec.name, spec.datatype.value, shape, content=content)
    return Request([tensor], binary_by_default=True)


def _length(header: bytes, size: int) -> int:
    if not header.isdigit() or len(header) > 18 or not 0 < int(header) <= size:
        raise ValidationProblem(
            _("inference header size should be in range (0, %(size)d), got: %(given)s")
            % {"size": size, "given": header[:40].decode("latin-1")}
        )
    return int(header)


def _parsed(body: bytes, end: int) -> tuple[str, dict[str, Any]]:
    try:
        text = (body if end == len(body) else body[:end]).decode()
        message = _decode(text)
    except (ValueError, RecursionError) as error:
        raise ValidationProblem(_("failed to parse the request JSON buffer: %(why)s") % {"why": error}) from error
    if not isinstance(message, dict):
        raise ValidationProblem(_("The request is a JSON object with 'inputs'."))
    return text, message


def _input(tensor: Any, body: bytes, start: int, nonfinite: bool, path: str) -> tuple[RawTensor, int]:
    """The input, and where the next one's content begins."""
    if not isinstance(tensor, dict):
        raise ValidationProblem(_("A tensor is an object with name, datatype and shape."), path=path)
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if type(name) is not str:
        raise ValidationProblem(_("Expected the tensor's name, a string."), path=f"{path}.name")
    if type(datatype) is not str:
        raise ValidationProblem(_("Expected the tensor's datatype, a string."), path=f"{path}.datatype")
    parameters = _of_tensor(tensor, path)
    data, size = tensor.get("data"), parameters.get("binary_data_size")
    if (data is None) == (size is None):
        raise ValidationProblem(
            _("Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters'."), path=path
        )
    if size is None:
        return RawTensor(name, datatype, tensor.get("shape"), data, nonfinite=nonfinite), start
    if type(size) is not int or size < 0:
        raise ValidationProblem(_("Expected a number of bytes."), path=f"{path}.parameters.binary_data_size")
    end = start + size
    if end > len(body):
        raise ValidationProblem(
            _("unexpected size for input '%(name)s', expecting %(missing)d additional bytes")
            % {"name": name[:60], "missing": min(end - len(body), MAX_MICROSECONDS)},
            path=f"{path}.parameters.binary_data_size",
        )
    return RawTensor(name, datatype, tensor.get("shape"), content=body[start:end]), end


def _of_tensor(tensor: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    parameters = tensor.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ValidationProblem(_("Parameters are an object."), path=f"{path}.parameters")
    if "shared_memory_region" in parameters:
        raise ValidationProblem(
            _("There is no memory to share here: send the tensor itself."),
            path=f"{path}.parameters.shared_memory_region",
        )
    return parameters


def _read_parameters(request: Request, parameters: Any) -> None:
    if not isinstance(parameters, dict):
        raise ValidationProblem(_("Parameters are an object of names and scalars."), path="input.parameters")
    request.binary_by_default = _boolean(parameters.pop("binary_data_output", False), "input.parameters")
    microseconds = parameters.pop("timeout", 0)
    if type(microseconds) is not int or not 0 <= microseconds < MAX_MICROSECONDS:
        raise ValidationProblem(_("A timeout is a number of microseconds."), path="input.parameters.timeout")
    # 0 is Triton's word for no timeout of its own.
    request.timeout = microseconds / 1e6 if microseconds else None
    request.parameters = parameters


def _read_outputs(request: Request, outputs: Any) -> None:
    if not isinstance(outputs, list) or len(outputs) > MAX_OUTPUTS:
        raise ValidationProblem(_("Expected a list of outputs."), path="input.outputs")
    names = []
    for position, output in enumerate(outputs):
        path = f"input.outputs.{position}"
        name = output.get("name") if isinstance(output, dict) else None
        if type(name) is not str:
            raise ValidationProblem(_("Expected an object with the output's name."), path=path)
        names.append(name)
        parameters = _of_tensor(output, path)
        if "binary_data" in parameters:
            request.binary[name] = _boolean(parameters["binary_data"], f"{path}.parameters.binary_data")
        classes = parameters.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise ValidationProblem(_("Expected how many classes to name."), path=f"{path}.parameters.classification")
        if classes:
            request.classes[name] = classes
    # Asked for twice is answered once; none asked for are all.
    request.outputs = list(dict.fromkeys(names)) or None


def _boolean(value: Any, path: str) -> bool:
    if type(value) is not bool:
        raise ValidationProblem(_("Expected true or false."), path=path)
    return value
