"""A request's check against the signature of the model: first what is declared, only then what it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from inference.tensors.datatypes import MAX_TENSOR_BYTES, Datatype
from inference.tensors.reading import parse, parse_shape, shown
from inference.tensors.tensor import InferenceRequest, Signature, TensorSpec
from marketplace.errors import ValidationProblem

MAX_PARAMETERS = 32
MAX_PARAMETER_BYTES = 4096
# What Triton takes out of the parameters for itself: order, urgency and state of requests are not a caller's to set.
RESERVED_PARAMETERS = frozenset(
    {
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "binary_data_output",
        "headers",
        "stop_request",
    }
)


@dataclass(frozen=True, slots=True)
class RawTensor:
    """An input as a caller sent it: one of `data`, `base64` and `content` (raw bytes), nothing checked yet.

    `nonfinite`: NaN and infinity are numbers in `data`, too.
    """

    name: str
    datatype: str
    shape: object
    data: object = None
    base64: object = None
    content: bytes | None = None
    nonfinite: bool = False


def read_request(
    signature: Signature,
    inputs: Sequence[RawTensor],
    outputs: Sequence[str] | None = None,
    parameters: object = None,
    *,
    path: str = "input",
    limit: int = MAX_TENSOR_BYTES,
) -> InferenceRequest:
    """The request that a caller's input makes, or a ValidationProblem whose path names the field.

    `limit` in bytes of content, for each tensor. Nothing is allocated before all that is declared fits the signature.
    """
    _check_names([raw.name for raw in inputs], signature.inputs, f"{path}.inputs", "input")
    declared = []
    for position, raw in enumerate(inputs):
        place = f"{path}.inputs.{position}"
        datatype = _datatype(raw.datatype, f"{place}.datatype")
        shape = parse_shape(raw.shape, datatype, path=f"{place}.shape", limit=limit)
        declared.append(TensorSpec(raw.name, datatype, shape))
    check_request(declared, signature, outputs, path=path)
    scalars = check_parameters(parameters, path=f"{path}.parameters")
    tensors = tuple(
        parse(
            spec.name,
            spec.datatype,
            spec.shape,
            data=raw.data,
            base64=raw.base64,
            content=raw.content,
            nonfinite=raw.nonfinite,
            path=f"{path}.inputs.{position}",
            limit=limit,
        )
        for position, (spec, raw) in enumerate(zip(declared, inputs, strict=True))
    )
    return InferenceRequest(tensors, None if outputs is None else tuple(outputs), scalars)


def check_request(
    declared: Sequence[TensorSpec], signature: Signature, outputs: Sequence[str] | None = None, *, path: str = "input"
) -> None:
    """Names, datatypes, ranks and dimensions of the inputs, and the names of the outputs, are the signature's.

    `declared` are shapes as `parse_shape` passes them.
    """
    _check_names([spec.name for spec in declared], signature.inputs, f"{path}.inputs", "input")
    expected = {spec.name: spec for spec in signature.inputs}
    batch: tuple[str, int] | None = None
    for position, spec in enumerate(declared):
        wanted = expected[spec.name]
        place = f"{path}.inputs.{position}"
        if spec.datatype != wanted.datatype:
            raise ValidationProblem(
                f"Input {shown(spec.name)} is {wanted.datatype}, not {spec.datatype}.", path=f"{place}.datatype"
            )
        if len(spec.shape) != len(wanted.shape) or any(
            size not in (-1, got) for size, got in zip(wanted.shape, spec.shape, strict=True)
        ):
            raise ValidationProblem(
                f"Input {shown(spec.name)} has the shape {list(wanted.shape)}, -1 standing for any size; "
                f"got {list(spec.shape)}.",
                path=f"{place}.shape",
            )
        if signature.batched and wanted.shape[:1] == (-1,):
            if batch is not None and batch[1] != spec.shape[0]:
                raise ValidationProblem(
                    f"The first dimension is the same for all inputs: {shown(batch[0])} has {batch[1]}, "
                    f"{shown(spec.name)} has {spec.shape[0]}.",
                    path=f"{place}.shape",
                )
            batch = batch or (spec.name, spec.shape[0])
    if outputs is not None:
        _check_outputs(outputs, signature.outputs, f"{path}.outputs")


def check_parameters(parameters: object, *, path: str) -> Mapping[str, bool | int | float | str]:
    """At most 32 scalars, 4 KiB in all, under names that Triton does not keep for itself."""
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ValidationProblem(f"Parameters are an object of names and scalars, not {shown(parameters)}.", path=path)
    if len(parameters) > MAX_PARAMETERS:
        raise ValidationProblem(f"At most {MAX_PARAMETERS} parameters, not {len(parameters)}.", path=path)
    size = 0
    for name, value in parameters.items():
        size += len(name) + (len(value) if isinstance(value, str) else 8)
        if size > MAX_PARAMETER_BYTES:
            raise ValidationProblem(f"Parameters have at most {MAX_PARAMETER_BYTES} characters in all.", path=path)
        if not name or not name.isprintable() or name in RESERVED_PARAMETERS or name.startswith("triton_"):
            raise ValidationProblem(f"{shown(name)} is not a parameter that a model can take.", path=path)
        _check_parameter(value, f"{path}.{name}")
    return dict(parameters)


def _check_parameter(value: Any, path: str) -> None:
    if not isinstance(value, bool | int | float | str):
        raise ValidationProblem(f"A parameter is a boolean, a number or a string, not {shown(value)}.", path=path)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValidationProblem(f"An integer parameter has 64 bits; got {shown(value)}.", path=path)
    if isinstance(value, float) and not isfinite(value):
        raise ValidationProblem(f"A parameter is a finite number, not {shown(value)}.", path=path)
    if isinstance(value, str) and not _is_unicode(value):
        raise ValidationProblem("This string has half of a surrogate pair, which is not Unicode text.", path=path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _datatype(name: str, path: str) -> Datatype:
    try:
        return Datatype(name)
    except ValueError as error:
        raise ValidationProblem(
            f"{shown(name)} is not a datatype; there are {', '.join(Datatype)}.", path=path
        ) from error


def _check_names(names: Sequence[str], specs: Sequence[TensorSpec], path: str, kind: str) -> None:
    known = [spec.name for spec in specs]
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name not in known:
            raise ValidationProblem(
                f"There is no {kind} {shown(name)}; the model's are {', '.join(map(shown, known))}.",
                path=f"{path}.{position}.name",
            )
        if name in seen:
            raise ValidationProblem(f"The {kind} {shown(name)} is given twice.", path=f"{path}.{position}.name")
        seen.add(name)
    missing = [name for name in known if name not in seen]
    if missing:
        raise ValidationProblem(f"Missing {kind}: {', '.join(map(shown, missing))}.", path=path)


def _check_outputs(names: Sequence[str], specs: Sequence[TensorSpec], path: str) -> None:
    known = [spec.name for spec in specs]
    if not names:
        raise ValidationProblem("Ask for one output at least, or leave 'outputs' out for all.", path=path)
    for position, name in enumerate(names):
        if name not in known:
            raise ValidationProblem(
                f"There is no output {shown(name)}; the model's are {', '.join(map(shown, known))}.",
                path=f"{path}.{position}",
            )
        if name in names[:position]:
            raise ValidationProblem(f"The output {shown(name)} is asked for twice.", path=f"{path}.{position}")
