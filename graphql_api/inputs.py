"""InvokeModelInput from what a request carries: the usual one in a tenth of the time that graphql-core takes."""

from typing import Any

from marketplace.catalog.models import Datatype

from .invocation import InvokeModelInput
from .tensors import TensorInput

_DATATYPES: dict[object, Datatype] = {datatype.name: datatype for datatype in Datatype}
_OPTIONAL_TEXT = (str, type(None))


def usual(value: Any) -> InvokeModelInput | None:
    """None for what has to be coerced (one thing where a list belongs, 1.0 for 1) and for what is an error.

    Types are compared, not asked for: a bool is an int to isinstance.
    """
    if type(value) is not dict:
        return None
    known = 2
    model, inputs = value.get("model"), value.get("inputs")
    if type(model) is not str or type(inputs) is not list:
        return None
    version, outputs, parameters, idempotency_key = None, None, None, None
    if "version" in value:
        known, version = known + 1, value["version"]
        if version is not None and (type(version) is not int or not -(2**31) <= version < 2**31):
            return None
    if "outputs" in value:
        known, outputs = known + 1, value["outputs"]
        if outputs is not None and (type(outputs) is not list or any(type(name) is not str for name in outputs)):
            return None
    if "parameters" in value:
        known, parameters = known + 1, value["parameters"]
    if "idempotencyKey" in value:
        known, idempotency_key = known + 1, value["idempotencyKey"]
        if type(idempotency_key) not in _OPTIONAL_TEXT:
            return None
    if len(value) != known:
        return None
    tensors = [_usual_tensor(tensor) for tensor in inputs]
    if None in tensors:
        return None
    return InvokeModelInput(
        model=model,
        version=version,
        inputs=tensors,  # type: ignore[arg-type]  # none of them is None
        outputs=outputs,
        parameters=parameters,
        idempotency_key=idempotency_key,
    )


def _usual_tensor(value: Any) -> TensorInput | None:
    if type(value) is not dict:
        return None
    name, datatype, shape = value.get("name"), value.get("datatype"), value.get("shape")
    base64 = value.get("base64")
    if (
        type(name) is not str
        or type(datatype) is not str
        or datatype not in _DATATYPES
        or type(shape) is not list
        or any(type(size) is not int or not -(2**63) <= size < 2**63 for size in shape)
        or type(base64) not in _OPTIONAL_TEXT
        or len(value) != 3 + ("data" in value) + ("base64" in value)
    ):
        return None
    return TensorInput(name=name, datatype=_DATATYPES[datatype], shape=shape, data=value.get("data"), base64=base64)


def coerced(given: dict[str, Any]) -> InvokeModelInput:
    """As strawberry makes it of the coerced argument, in a tenth of the time."""
    return InvokeModelInput(
        model=given["model"],
        version=given.get("version"),
        inputs=[
            TensorInput(
                name=tensor["name"],
                datatype=tensor["datatype"],
                shape=tensor["shape"],
                data=tensor.get("data"),
                base64=tensor.get("base64"),
            )
            for tensor in given["inputs"]
        ],
        outputs=given.get("outputs"),
        parameters=given.get("parameters"),
        idempotency_key=given.get("idempotencyKey"),
    )
