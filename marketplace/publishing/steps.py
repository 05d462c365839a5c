"""A new version of a publisher's own network with provided steps around it: an ensemble (inference/ensembles.py)."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.files import File
from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Direction, ModelVersion, ModelVersionStatus
from marketplace.errors import ValidationProblem
from marketplace.objects import store

from . import provided, uploads
from .ownership import own_upload, own_version
from .provided import Tensor

MAX_TOKENIZER_BYTES = 32 * 1024**2
NETWORK, PREPROCESSING, POSTPROCESSING = "network", "preprocessing", "postprocessing"
BEFORE, AFTER = "input.preprocessing", "input.postprocessing"

Before = provided.Image | provided.Tokenizer


@dataclass(frozen=True, slots=True)
class Network:
    """The version that the steps go around."""

    version: ModelVersion
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    labels: Mapping[str, Sequence[str]]

    def labels_of(self, output: str | None) -> Sequence[str]:
        """Those of the tensor, of the only one for None; none where none are said."""
        return self.labels.get(_chosen(self.outputs, output, f"{AFTER}.classification.tensor")[0], ())

    @property
    def description(self) -> dict[str, Any]:
        """As a step that takes and gives its tensors by their own names."""
        return _step(NETWORK, "onnxruntime", "model.onnx", self.inputs, self.outputs)


def network(principal: Principal, *, version_id: UUID) -> Network:
    """The caller's own version, if steps can go around it. Raises ValidationProblem."""
    with transaction.atomic():
        version = own_version(principal, version_id)
    if version.status not in (ModelVersionStatus.READY, ModelVersionStatus.LIVE):
        raise ValidationProblem(
            _("Steps go around a version that is ready, and this one is “%(status)s”.")
            % {"status": version.get_status_display()},
            path="input.modelVersion",
        )
    if version.format != ArtifactFormat.ONNX:
        raise ValidationProblem(
            _("Steps go around a single ONNX network, and this version is “%(format)s”.")
            % {"format": version.get_format_display()},
            path="input.modelVersion",
        )
    rows = list(version.tensors.order_by("position"))
    inputs, outputs = (
        [(row.name, row.datatype, tuple(row.shape)) for row in rows if row.direction == direction]
        for direction in (Direction.INPUT, Direction.OUTPUT)
    )
    labels = {row.name: row.labels for row in rows if row.labels and row.direction == Direction.OUTPUT}
    return Network(version, inputs, outputs, labels)


def tokenizer(principal: Principal, *, upload_id: UUID) -> provided.Tokenizer:
    """Of what the caller has uploaded. Raises ValidationProblem."""
    path = f"{BEFORE}.tokenizer.upload"
    upload = own_upload(principal, upload_id, path=path)
    if not upload.sha256:
        raise ValidationProblem(_("Not every byte of this upload has arrived."), path=path)
    if upload.size_bytes > MAX_TOKENIZER_BYTES:
        raise ValidationProblem(
            _("A tokenizer.json has at most %(most)d bytes.") % {"most": MAX_TOKENIZER_BYTES}, path=path
        )
    with told(path.rpartition(".")[0]):
        return provided.Tokenizer(store().get(upload.sha256))


def compose(
    principal: Principal,
    *,
    around: Network,
    before: Before | None = None,
    into: str | None = None,
    after: provided.Labels | None = None,
    out_of: str | None = None,
    release_notes: str = "",
) -> ModelVersion:
    """The model's next version, VALIDATING: `before`, the network, `after`.

    A picture goes into the input `into`, and labels are made out of the output `out_of`; None is the only one. Tokens
    go into the inputs of their names. What no step takes or gives is the pipeline's as it was the network's. Raises
    ValidationProblem for what does not fit together.
    """
    if before is None and after is None:
        raise ValidationProblem(_("Choose a step to put before or after the network."), path="input")
    pipeline = Pipeline(around)
    if before is not None:
        pipeline.put_before(before, into)
    if after is not None:
        pipeline.put_after(after, out_of)
    with tempfile.TemporaryDirectory() as scratch:
        artifact, archive = Path(scratch, "model.onnx"), Path(scratch, "ensemble.zip")
        store().download(around.version.sha256, artifact)
        pipeline.write(archive, artifact)
        with archive.open("rb") as content:
            return uploads.submit_file(
                principal,
                content=File(content),
                model_ref=around.version.model.ref,
                release_notes=release_notes,
                path="input",
            )


@contextmanager
def told(path: str) -> Iterator[None]:
    """Says where in the input a WrongParameter is."""
    try:
        yield
    except provided.WrongParameter as error:
        raise ValidationProblem(
            _("Expected: %(wanted)s.") % {"wanted": error.message}, path=f"{path}.{error.field}"
        ) from error


class Pipeline:
    """The network alone, until steps are put before and after it."""

    def __init__(self, around: Network) -> None:
        self.around = around
        self.inputs, self.outputs = list(around.inputs), list(around.outputs)
        self.network = around.description
        self.steps = [self.network]
        self.files: dict[str, bytes] = {}

    def put_before(self, step: Before, into: str | None) -> None:
        if isinstance(step, provided.Image):
            taken = [_chosen(self.around.inputs, into, f"{BEFORE}.image.tensor")]
            fed = {"pixels": taken[0][0]}
        else:
            taken = [tensor for tensor in self.around.inputs if tensor[0] in ("input_ids", "attention_mask")]
            fed = {name: name for name, _datatype, _shape in taken}
            if not taken:
                raise ValidationProblem(
                    _("The network takes neither input_ids nor attention_mask."), path=f"{BEFORE}.tokenizer"
                )
        gives = {name: (name, datatype, shape) for name, datatype, shape in step.outputs}
        for given, name in fed.items():
            tensor = next(tensor for tensor in taken if tensor[0] == name)
            _check_fit(gives[given], tensor, f"{BEFORE}.{step.BACKEND}")
        description = self._added(PREPROCESSING, step, position=0)
        self.inputs = [*step.inputs, *(tensor for tensor in self.inputs if tensor not in taken)]
        for given, name in fed.items():
            description["output_map"][given] = self.network["input_map"][name] = _between(name)
        description["outputs"] = _described([gives[given] for given in fed])
        if isinstance(step, provided.Tokenizer):
            # What a plan by token counts.
            counted = gives["token_count"]
            description["outputs"] += _described([counted])
            description["output_map"][counted[0]] = counted[0]
            self.outputs.append(counted)
        _check_names(self.inputs, BEFORE)
        _check_names(self.outputs, BEFORE)

    def put_after(self, step: provided.Labels, out_of: str | None) -> None:
        taken = _chosen(self.around.outputs, out_of, f"{AFTER}.classification.tensor")
        _check_fit(step.inputs[0], taken, f"{AFTER}.classification")
        description = self._added(POSTPROCESSING, step, position=len(self.steps))
        self.outputs = [*step.outputs, *(tensor for tensor in self.outputs if tensor != taken)]
        self.network["output_map"][taken[0]] = description["input_map"]["scores"] = _between(taken[0])
        description["output_map"] = {name: name for name, _datatype, _shape in step.outputs}
        _check_names(self.outputs, AFTER)

    def write(self, archive: Path, artifact: Path) -> None:
        """Not compressed: weights hardly are, and checks and deployment read it over and over."""
        described = {
            "inputs": _described(self.inputs),
            "outputs": _described(self.outputs),
            "steps": self.steps,
        }
        with zipfile.ZipFile(archive, "w") as zipped:
            # A date of its own would make another artefact of the same content.
            for path, content in {"ensemble.json": json.dumps(described).encode(), **self.files}.items():
                zipped.writestr(zipfile.ZipInfo(path), content)
            member = zipfile.ZipInfo(f"{NETWORK}/model.onnx")
            member.file_size = artifact.stat().st_size
            with artifact.open("rb") as source, zipped.open(member, "w") as target:
                shutil.copyfileobj(source, target)

    def _added(self, name: str, step: Before | provided.Labels, *, position: int) -> dict[str, Any]:
        description = _step(name, step.BACKEND, step.FILE, step.inputs, step.outputs)
        description["output_map"] = {}
        self.steps.insert(position, description)
        self.files[f"{name}/{step.FILE}"] = step.write()
        return description


def _step(name: str, backend: str, file: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, Any]:
    return {
        "name": name,
        "backend": backend,
        "files": {file: f"{name}/{file}"},
        "inputs": _described(inputs),
        "outputs": _described(outputs),
        "input_map": {tensor[0]: tensor[0] for tensor in inputs},
        "output_map": {tensor[0]: tensor[0] for tensor in outputs},
    }


def _described(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": list(shape)} for name, datatype, shape in tensors]


def _between(name: str) -> str:
    """A tensor that callers neither send nor get may have the name of one that they do."""
    return f"{NETWORK}/{name}"


def _chosen(tensors: Sequence[Tensor], name: str | None, path: str) -> Tensor:
    found = [tensor for tensor in tensors if name in (None, tensor[0])]
    if len(found) != 1:
        names = ", ".join(tensor[0] for tensor in tensors)
        raise ValidationProblem(_("Name one of the network's tensors: %(names)s.") % {"names": names}, path=path)
    return found[0]


def _check_fit(gives: Tensor, takes: Tensor, path: str) -> None:
    (_name, given, shape), (_other, taken, wanted) = gives, takes
    fits = len(shape) == len(wanted) and all(
        -1 in sizes or sizes[0] == sizes[1] for sizes in zip(shape, wanted, strict=True)
    )
    if given != taken or not fits:
        raise ValidationProblem(
            _("The step has %(step)s%(shape)s, and the network's “%(name)s” is %(datatype)s%(wanted)s.")
            % {"step": given, "shape": list(shape), "name": takes[0], "datatype": taken, "wanted": list(wanted)},
            path=path,
        )


def _check_names(tensors: Sequence[Tensor], path: str) -> None:
    names = [tensor[0] for tensor in tensors]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValidationProblem(
            _("The step and the network both have a tensor “%(name)s”.") % {"name": twice[0]}, path=path
        )
