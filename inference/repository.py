"""From an artefact to the models that Triton loads for it: their configuration and their files.

Unless its publisher says otherwise, batches are plain dynamic dimensions (`max_batch_size` 0): Triton passes every
request on as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from inference.ensembles import DECOUPLED, read_ensemble
from inference.formats import archived_model
from inference.tensors import Datatype, Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class TritonModel:
    """`config` as Triton's model configuration in JSON; `files`: paths in the model's folder -> contents."""

    name: str
    config: Mapping[str, Any]
    files: Mapping[str, bytes]


# Whose a model is: a parameter of its configuration.
OWNER = "marketplace"
# How long the first call of a model may take before it takes any.
WARM_UP_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Running:
    """How to run a version. `max_batch_size` above 0: requests are merged, of as many rows at most.

    `owner`: which marketplace it is of, where it matters.
    """

    instance_count: int = 1
    max_batch_size: int = 0
    response_cache: bool = False
    owner: str = ""


AS_IT_IS = Running()


def triton_models(
    name: str,
    model_format: str,
    artifact: bytes,
    signature: Signature,
    *,
    load: int = 1,
    running: Running = AS_IT_IS,
) -> list[TritonModel]:
    """In the order in which to load them; unload them in the opposite one. The last has the name that callers use.

    `load` becomes Triton's number of the version, under which it counts calls: with a number of its own for each load,
    counters that began anew are never taken for those before.

    Raises ValidationProblem when the artefact does not hold together.
    """
    if model_format == "onnx":
        return [_single(name, "onnxruntime", {"model.onnx": artifact}, signature, load=load, running=running)]
    if model_format == "onnx-archive":
        model, data = archived_model(artifact)
        # Names beside Triton's own for the model would take its place.
        files = {**data, "model.onnx": model}
        return [_single(name, "onnxruntime", files, signature, load=load, running=running)]
    ensemble = read_ensemble(artifact)
    if ensemble.is_decoupled:
        (step,) = ensemble.steps
        return [_single(name, step.backend, step.files, step.signature, load=load, running=running)]
    # Whoever has the whole answer at hand asks no step.
    of_a_step = replace(running, response_cache=False, max_batch_size=0)
    steps = [
        _single(f"{name}.{step.name}", step.backend, step.files, step.signature, load=load, running=of_a_step)
        for step in ensemble.steps
    ]
    pipeline = {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": 0,
        **_tensors(signature, 0),
        **_settings(running),
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": f"{name}.{step.name}",
                    "model_version": -1,
                    "input_map": dict(step.input_map),
                    "output_map": dict(step.output_map),
                }
                for step in ensemble.steps
            ]
        },
    }
    # Triton takes an upload only with a file, which an ensemble does not have.
    return [*steps, TritonModel(name, pipeline, {f"{load}/ensemble": b""})]


def _single(
    name: str, backend: str, files: Mapping[str, bytes], signature: Signature, *, load: int, running: Running
) -> TritonModel:
    config = {
        "name": name,
        "backend": backend,
        "max_batch_size": running.max_batch_size,
        **_tensors(signature, running.max_batch_size),
        **_settings(running),
        # Triton makes KIND_GPU of KIND_AUTO where the server has a GPU, and KIND_CPU where it has none.
        "instance_group": [
            {"kind": "KIND_CPU" if backend in DECOUPLED else "KIND_AUTO", "count": running.instance_count}
        ],
        "model_transaction_policy": {"decoupled": backend in DECOUPLED},
    }
    if running.max_batch_size:
        config["dynamic_batching"] = {}
    return TritonModel(name, config, {f"{load}/{path}": content for path, content in files.items()})


def _settings(running: Running) -> dict[str, Any]:
    parameters = {OWNER: running.owner, "warm_up_seconds": str(WARM_UP_SECONDS)}
    return {
        "response_cache": {"enable": running.response_cache},
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }


def _tensors(signature: Signature, max_batch_size: int) -> dict[str, Any]:
    """Where requests are merged, Triton leaves the dimension along which they are out of its configuration."""
    tensors = {
        "input": [tensor_config(spec) for spec in signature.inputs],
        "output": [tensor_config(spec) for spec in signature.outputs],
    }
    if max_batch_size:
        for config in (*tensors["input"], *tensors["output"]):
            config["dims"] = config["dims"][1:]
    return tensors


def tensor_config(spec: TensorSpec) -> dict[str, Any]:
    """An input or output as Triton's model configuration has it."""
    datatype = "STRING" if spec.datatype is Datatype.BYTES else spec.datatype.value
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape)}
