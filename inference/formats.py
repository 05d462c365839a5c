"""The signature that is written in an artefact, whichever its format: `onnx`, `onnx-archive` or `ensemble`."""

from collections.abc import Mapping

import onnx

from inference.checks import archives, weights
from inference.checks.refusal import Refused
from inference.ensembles import read_ensemble
from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.errors import ValidationProblem

DATATYPES: dict[int, Datatype] = {
    onnx.TensorProto.BOOL: Datatype.BOOL,
    onnx.TensorProto.UINT8: Datatype.UINT8,
    onnx.TensorProto.UINT16: Datatype.UINT16,
    onnx.TensorProto.UINT32: Datatype.UINT32,
    onnx.TensorProto.UINT64: Datatype.UINT64,
    onnx.TensorProto.INT8: Datatype.INT8,
    onnx.TensorProto.INT16: Datatype.INT16,
    onnx.TensorProto.INT32: Datatype.INT32,
    onnx.TensorProto.INT64: Datatype.INT64,
    onnx.TensorProto.FLOAT16: Datatype.FP16,
    onnx.TensorProto.FLOAT: Datatype.FP32,
    onnx.TensorProto.DOUBLE: Datatype.FP64,
    onnx.TensorProto.BFLOAT16: Datatype.BF16,
    onnx.TensorProto.STRING: Datatype.BYTES,
}


def read_signature(artifact: bytes, model_format: str = "onnx") -> Signature:
    """The inputs and outputs of an `onnx`, `onnx-archive` or `ensemble` artefact. Raises ValidationProblem."""
    if model_format == "onnx-archive":
        return read_onnx(archived_model(artifact)[0])
    return read_onnx(artifact) if model_format == "onnx" else read_ensemble(artifact).signature


def archived_model(artifact: bytes) -> tuple[bytes, Mapping[str, bytes]]:
    """The model of an `onnx-archive`, and its data files by the paths that it has for them. Raises ValidationProblem.

    Whatever else is in the archive stays there.
    """
    try:
        content, beside = archives.model_and_data(archives.read(artifact))
        named = weights.external_files(_parsed(content))
        return content, {path: beside[path] for path in sorted(named & beside.keys())}
    except Refused as refused:
        raise ValidationProblem(refused.reason, path="input.artifact") from refused


def read_onnx(artifact: bytes) -> Signature:
    """Symbolic dimensions are -1, and a scalar has the shape [1], since Triton knows none without dimensions."""
    return signature_of(_parsed(artifact))


def _parsed(artifact: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(artifact)
    except Exception as error:  # protobuf's own error class is not part of its interface
        raise ValidationProblem("This file is not an ONNX model.", path="input.artifact") from error
    return model


def signature_of(model: onnx.ModelProto) -> Signature:
    """As `read_onnx`. Raises ValidationProblem."""
    if not model.graph.output:
        raise ValidationProblem("This ONNX model has no outputs.", path="input.artifact")
    # Before IR version 4 initializers were listed among the inputs; nobody sends those.
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    leading = {_leading_symbol(value) for value in inputs} - {None}
    return Signature(
        tuple(map(_onnx_spec, inputs)), tuple(map(_onnx_spec, model.graph.output)), batched=len(leading) <= 1
    )


def _leading_symbol(value: onnx.ValueInfoProto) -> str | None:
    dimensions = value.type.tensor_type.shape.dim
    if not dimensions or dimensions[0].HasField("dim_value"):
        return None
    return str(dimensions[0].dim_param) or f"{value.name} alone"


def _onnx_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in DATATYPES:
        raise ValidationProblem(
            f"'{value.name}' is not a tensor of {', '.join(Datatype)}. Convert the model so that it is; for a "
            "classifier of scikit-learn, with the option zipmap=False.",
            path="input.artifact",
        )
    if not tensor.HasField("shape"):
        raise ValidationProblem(f"'{value.name}' has no shape, not even its rank.", path="input.artifact")
    shape = tuple(size.dim_value if size.dim_value > 0 else -1 for size in tensor.shape.dim)
    return TensorSpec(value.name, DATATYPES[tensor.elem_type], shape or (1,))
