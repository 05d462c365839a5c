"""What the child in the sandbox does with an artefact, step by step, and tells (report.py has the other end).

Lines: {"step", "status", "detail", "seconds"}, {"facts"}, and at the end one of {"accepted": {"format", "inputs",
"outputs", "decoupled"}}, {"refused": {"reason", "advice"}}, {"convert": kind}.
"""

import contextlib
import io
import json
import locale
import os
import signal
import time
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import helper

from inference import ensembles, formats
from inference.tensors import Signature, TensorSpec
from marketplace.errors import ValidationProblem

from . import archives, detection, graphs, trial, weights
from .forkserver import Tell
from .refusal import NeedsConversion, Refused

MOST_OPERATORS = 200
# Of the processor: a run that does not end is as endless for a large model, which takes longer until it is loaded.
TRIAL_SECONDS = 6

GENERATOR = Refused(
    "The ensemble's generator has a chat template, which is a program that runs on every call, without a limit that "
    "could be set.",
    "Leave `chat_template` out of generation.json, and have callers send text; or ask the operator to load the model.",
)


def examine(artifact: int, tell: Tell, given: Any) -> None:
    """`artifact`: a descriptor to read from."""
    try:
        accepted = Examination(tell).examine(_content(artifact))
    except NeedsConversion as needed:
        tell({"convert": needed.kind})
    except Refused as refused:
        tell({"refused": {"reason": refused.reason, "advice": refused.advice}})
    except MemoryError:
        tell({"refused": {"reason": trial.TOO_MUCH_MEMORY.reason, "advice": trial.TOO_MUCH_MEMORY.advice}})
    else:
        tell({"accepted": accepted})


def _content(artifact: int) -> bytes:
    """A file object would ask for the file's status, which is not allowed any more. Held once, however large."""
    return os.pread(artifact, os.lseek(artifact, 0, os.SEEK_END), 0)


def warm_up() -> None:
    """Whatever is loaded on first use is loaded, by way of models that are ours."""
    with contextlib.suppress(locale.Error):
        # StringNormalizer's; whoever holds it finds it again without opening a file.
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    value = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", [value], [_renamed(value, "b")])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", model)
    for artifact in (model, zipped.getvalue()):
        Examination(lambda line: None).examine(artifact)
    for broken in (b"PK\x03\x04", b"\x08\x08", b"text"):
        try:
            Examination(lambda line: None).examine(broken)
        except Refused:
            continue


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    other = onnx.ValueInfoProto()
    other.CopyFrom(value)
    other.name = name
    return other


class Examination:
    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """What is put into the list becomes the step's detail."""
        self.tell({"step": name, "status": "running"})
        said: list[str] = []
        started = time.monotonic()
        try:
            yield said
        except BaseException as error:
            passed = isinstance(error, NeedsConversion)
            detail = f"to be converted ({error.kind})" if isinstance(error, NeedsConversion) else " ".join(said)
            self._ended(name, "passed" if passed else "failed", detail, started)
            raise
        self._ended(name, "passed", " ".join(said), started)

    def examine(self, artifact: bytes) -> dict[str, Any]:
        """What there is to know of an artefact that is sound. Raises Refused, NeedsConversion or MemoryError."""
        with self.step("format") as said:
            if not detection.is_zip(artifact):
                detection.refuse_other_than_onnx(artifact)
                kind, files = "onnx", {"model.onnx": artifact}
            else:
                files = dict(archives.read(artifact))
                kind = detection.kind_of_zip(files)
            said.append({"onnx": "ONNX", "onnx-archive": "ONNX with external data", "ensemble": "Ensemble"}[kind])
        if kind == "ensemble":
            return self.examine_ensemble(artifact)
        content, data = archives.model_and_data(files) if kind == "onnx-archive" else (artifact, {})
        signature = self.examine_model(content, data)
        return _accepted(kind, signature, decoupled=False)

    def examine_model(self, content: bytes, files: Mapping[str, bytes], declared: Signature | None = None) -> Signature:
        """`files` beside it; `declared`: the signature that an ensemble's step claims for it."""
        facts = graphs.Facts()
        with self.step("parse") as said:
            model = graphs.parse(content)
            said.append(f"IR version {model.ir_version}")
            if model.producer_name:
                said.append(f"from {model.producer_name[:80]} {model.producer_version[:40]}".rstrip())
            self.tell(
                {
                    "facts": {
                        "opset": {opset.domain: opset.version for opset in model.opset_import[:16]},
                        "ir_version": model.ir_version,
                        "producer": f"{model.producer_name[:80]} {model.producer_version[:40]}".strip(),
                    }
                }
            )
        with self.step("operators") as said:
            graphs.check_operators(model, facts)
            self.tell({"facts": {"operators": dict(facts.operators.most_common(MOST_OPERATORS))}})
            said.append(f"{facts.operators.total()} nodes of {len(facts.operators)} kinds")
        with self.step("sizes") as said:
            weights.check_sizes(model, files, facts)
            self.tell({"facts": {"parameters": facts.parameters}})
            said.append(f"{facts.parameters} parameters")
        if files:
            weights.bring_in(model, files)
            content = model.SerializeToString()
        with self.step("signature") as said:
            if graphs.is_to_be_rewritten(model):
                raise NeedsConversion("onnx")
            signature = _signature(model)
            graphs.check_format(content)
            if declared is not None:
                _check_declared(declared, signature)
            said.append(f"{len(signature.inputs)} inputs, {len(signature.outputs)} outputs")
        del model  # the session has its own
        with self.step("load"):
            session = trial.load(content)
        with self.step("trial") as said:
            signal.setitimer(signal.ITIMER_PROF, TRIAL_SECONDS)
            seconds, noted = trial.run(session, batched=signature.batched)
            self.tell({"facts": {"trial_seconds": round(seconds, 4)}})
            signal.setitimer(signal.ITIMER_PROF, 0)
            said.append(noted)
        return signature

    def examine_ensemble(self, artifact: bytes) -> dict[str, Any]:
        with self.step("ensemble") as said:
            try:
                ensemble = ensembles.read_ensemble(artifact)
            except ValidationProblem as problem:
                raise Refused(problem.message, "Mend ensemble.json, and make the zip again.") from problem
            for step in ensemble.steps:
                if _has_chat_template(step.files.get("generation.json")):
                    raise GENERATOR
            said.append(", ".join(f"{step.name} ({step.backend})" for step in ensemble.steps))
        for step in ensemble.steps:
            if "model.onnx" in step.files:
                # A generator's graph has tensors of its own, which its callers never see.
                self.examine_model(
                    step.files["model.onnx"], {}, declared=step.signature if step.backend == "onnxruntime" else None
                )
        return _accepted("ensemble", ensemble.signature, decoupled=ensemble.is_decoupled)

    def _ended(self, name: str, status: str, detail: str, started: float) -> None:
        self.tell({"step": name, "status": status, "detail": detail, "seconds": round(time.monotonic() - started, 4)})


def _signature(model: onnx.ModelProto) -> Signature:
    try:
        signature = formats.signature_of(model)
    except ValidationProblem as problem:
        raise Refused(
            problem.message, "Change the model's inputs and outputs to tensors with a known rank, and export it again."
        ) from problem
    if not signature.inputs:
        raise Refused(
            "The model takes no input: it answers the same to every call.", "Export it with the input that it is about."
        )
    return signature


def _check_declared(declared: Signature, found: Signature) -> None:
    """An ensemble names each tensor of its steps as the step's own graph has it."""
    for kind, said, real in (("input", declared.inputs, found.inputs), ("output", declared.outputs, found.outputs)):
        known = {spec.name: spec for spec in real}
        for spec in said:
            other = known.get(spec.name)
            if other is None or (other.datatype, len(other.shape)) != (spec.datatype, len(spec.shape)):
                raise Refused(
                    f"ensemble.json says that a step has the {kind} {_written(spec)}, and its graph "
                    + (f"has {_written(other)}." if other else "does not."),
                    "Write into ensemble.json what the graph has.",
                )


def _written(spec: TensorSpec) -> str:
    return f"{spec.name[:100]!r} {spec.datatype}{list(spec.shape)}"


def _accepted(kind: str, signature: Signature, *, decoupled: bool) -> dict[str, Any]:
    def specs(each: tuple[TensorSpec, ...]) -> list[list[Any]]:
        return [[spec.name, spec.datatype.value, list(spec.shape)] for spec in each]

    return {
        "format": kind,
        "inputs": specs(signature.inputs),
        "outputs": specs(signature.outputs),
        "decoupled": decoupled,
    }


def _has_chat_template(settings: bytes | None) -> bool:
    if settings is None:
        return False
    try:
        parsed = json.loads(settings)
    except (ValueError, RecursionError) as error:
        raise Refused("generation.json is not JSON.", "Mend generation.json, and make the zip again.") from error
    return not isinstance(parsed, dict) or bool(parsed.get("chat_template"))
