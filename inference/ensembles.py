"""An ensemble: a zip with an `ensemble.json` and the files of its steps, which run one after another.

{"inputs": [{"name", "datatype", "shape"}], "outputs": [...],
 "steps": [{"name", "backend", "files": {"model.onnx": "network/model.onnx"}, "inputs": [...], "outputs": [...],
            "input_map": {step's tensor: pipeline's tensor}, "output_map": {...}}]}
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.errors import ValidationProblem
from marketplace.publishing import provided

# A model travels to Triton in one protobuf message, which ends at 2 GiB.
MAX_BYTES = 2 * 1024**3 - 1024**2
MAX_DESCRIPTION_BYTES = 1024**2
MAX_STEPS = 16

# The files that each backend takes; a publisher chooses among these backends and no others, since a backend is code.
BACKEND_FILES = {
    "onnxruntime": frozenset({"model.onnx"}),
    "tokenizer": frozenset({"tokenizer.json"}),
    **{backend: frozenset({step.FILE}) for backend, step in provided.BY_BACKEND.items()},
    "generator": frozenset({"model.onnx", "tokenizer.json", "generation.json"}),
}
# What people would send to, and see of, tensors that steps of ours take and give.
CLASS_SCORES = "application/x-class-scores"
CONTENT_TYPES = {
    provided.Image.BACKEND: {"image": "image/png"},
    provided.Tokenizer.BACKEND: {"text": "text/plain"},
    provided.Labels.BACKEND: {"labels": "text/plain"},
}
# Those that answer a request with any number of responses. Such a step stands alone, and is loaded without a pipeline.
DECOUPLED = frozenset({"generator"})


@dataclass(frozen=True, slots=True)
class Step:
    """One model of an ensemble. The maps go from the step's tensor names to the pipeline's."""

    name: str
    backend: str
    files: Mapping[str, bytes]
    signature: Signature
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Described:
    content_type: str
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ensemble:
    signature: Signature
    steps: tuple[Step, ...]

    def described(self) -> dict[str, Described]:
        """What is known of the pipeline's own tensors by the provided steps that take or give them."""
        told = {}
        for step in self.steps:
            names = {**step.input_map, **step.output_map}
            for name, content_type in CONTENT_TYPES.get(step.backend, {}).items():
                if name in names:
                    told[names[name]] = Described(content_type)
            if step.backend == provided.Labels.BACKEND and "probabilities" in names:
                labels = provided.Labels.read(step.files[provided.Labels.FILE]).labels
                told[names["probabilities"]] = Described(CLASS_SCORES, labels)
        return told

    @property
    def is_decoupled(self) -> bool:
        """Whether it answers a request with any number of responses; it is its only step then, as it is."""
        return self.steps[0].backend in DECOUPLED


def is_decoupled(artifact: bytes, model_format: str) -> bool:
    """Whether a model of this format answers a request with any number of responses. Raises ValidationProblem."""
    return model_format == "ensemble" and read_ensemble(artifact).is_decoupled


def read_ensemble(artifact: bytes) -> Ensemble:
    """The steps of an ensemble with their files. Raises ValidationProblem naming what does not hold together."""
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise _refused(f"its files are more than {MAX_BYTES} bytes in all")
            if archive.getinfo("ensemble.json").file_size > MAX_DESCRIPTION_BYTES:
                raise _refused(f"its ensemble.json is more than {MAX_DESCRIPTION_BYTES} bytes")
            description = json.loads(archive.read("ensemble.json"))
            names = [step["name"] for step in description["steps"]]
            if not 0 < len(names) <= MAX_STEPS or len(set(names)) != len(names):
                raise _refused(f"it has 1 to {MAX_STEPS} steps, each with a name of its own")
            signature = _signature(description)
            steps = tuple(_step(step, archive) for step in description["steps"])
            _check_wiring(signature, steps)
    except ValidationProblem:
        raise
    except Exception as error:  # the zip and JSON modules have a dozen kinds of failure for what is not theirs
        raise _refused(f"it is not a zip with an ensemble.json as described ({error})"[:300]) from error
    return Ensemble(signature, steps)


def _step(step: Mapping[str, Any], archive: zipfile.ZipFile) -> Step:
    name, backend, files = step["name"], step["backend"], step["files"]
    if not re.fullmatch("[a-z][a-z0-9_]{0,31}", name):
        raise _refused("a step's name is lower-case letters, digits and underscores")
    if backend not in BACKEND_FILES:
        raise _refused(f"step {name} asks for a backend that is not one of {', '.join(BACKEND_FILES)}")
    if set(files) != BACKEND_FILES[backend]:
        raise _refused(f"step {name} needs exactly the files {', '.join(sorted(BACKEND_FILES[backend]))}")
    # A folder for each step: nothing in the archive is read, and unpacked, more than once.
    if not all(member.startswith(f"{name}/") for member in files.values()):
        raise _refused(f"the files of step {name} lie in the folder {name}")
    contents = {file: archive.read(member) for file, member in files.items()}
    signature = _signature(step)
    if backend == provided.Tokenizer.BACKEND:
        try:
            provided.Tokenizer(contents[provided.Tokenizer.FILE])
        except provided.WrongParameter as error:
            raise _refused(f"the tokenizer.json of step {name} is not {error.message}") from error
    if backend in provided.BY_BACKEND:
        _check_provided(name, provided.BY_BACKEND[backend], contents, signature)
    return Step(name, backend, contents, signature, dict(step["input_map"]), dict(step["output_map"]))


def _check_provided(
    name: str, kind: type[provided.Parameters], contents: Mapping[str, bytes], signature: Signature
) -> None:
    """What the step is told is what it can be told, and its tensors are those that it has then."""
    try:
        told = kind.read(contents[kind.FILE])
    except provided.WrongParameter as error:
        raise _refused(f"what step {name} is told is wrong: {error}") from error
    has = {(spec.name, str(spec.datatype), spec.shape) for spec in signature.inputs}
    gives = {(spec.name, str(spec.datatype), spec.shape) for spec in signature.outputs}
    if has != set(told.inputs) or not gives <= set(told.outputs):
        raise _refused(f"step {name} has the inputs {told.inputs} and the outputs {told.outputs}")


def _signature(description: Mapping[str, Any]) -> Signature:
    return Signature(tuple(map(_spec, description["inputs"])), tuple(map(_spec, description["outputs"])))


def _spec(entry: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(entry["shape"])
    if not shape or not all(type(size) is int and size >= -1 for size in shape):
        raise ValueError("a shape is a list of sizes, -1 for a dynamic one")
    return TensorSpec(str(entry["name"]), Datatype(entry["datatype"]), shape)


def _check_wiring(signature: Signature, steps: tuple[Step, ...]) -> None:
    """Each step's inputs exist by the time that it runs, and the outputs come from some step."""
    known = {spec.name for spec in signature.inputs}
    for step in steps:
        if set(step.input_map) != {spec.name for spec in step.signature.inputs}:
            raise _refused(f"the input_map of step {step.name} does not name its inputs")
        if not set(step.output_map) <= {spec.name for spec in step.signature.outputs}:
            raise _refused(f"the output_map of step {step.name} names what is not its output")
        if not set(step.input_map.values()) <= known:
            raise _refused(f"step {step.name} takes what no earlier step gives")
        known |= set(step.output_map.values())
    if not {spec.name for spec in signature.outputs} <= known:
        raise _refused("no step gives one of its outputs")

    if any(step.backend in DECOUPLED for step in steps) and not _is_alone(signature, steps):
        raise _refused(f"a step with the backend {' or '.join(DECOUPLED)} is its only one, and its tensors are its own")


def _is_alone(signature: Signature, steps: tuple[Step, ...]) -> bool:
    maps = {**steps[0].input_map, **steps[0].output_map}
    return len(steps) == 1 and steps[0].signature == signature and all(name == maps[name] for name in maps)


def _refused(reason: str) -> ValidationProblem:
    return ValidationProblem(f"This ensemble cannot be used: {reason}.", path="input.artifact")
