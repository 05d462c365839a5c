"""A small language model (demo/build/babbler.py), made once, put up as a publisher would, and asked at Triton."""

import importlib.util
import io
import json
import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from demo import llm
from demo.build import babbler
from inference import gateway
from inference.tensors import Datatype, InferenceRequest, Tensor
from marketplace.access import Principal

PATIENCE = 60.0
BACKEND = Path(__file__).parents[2] / "inference" / "backends" / "generator"


def backend(name: str) -> ModuleType:
    """A module of the backend, which is no package: Triton's Python imports from its folder."""
    spec = importlib.util.spec_from_file_location(f"generator_{name}", BACKEND / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def archive() -> bytes:
    """The artefact, of the format `ensemble`."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "babbler.zip"
        babbler.build(path)
        return path.read_bytes()


def altered(files: dict[str, bytes] | None = None, **settings: Any) -> bytes:
    """The artefact with other files, or other settings in its generation.json; None leaves a setting out."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive())) as source, zipfile.ZipFile(written, "w") as target:
        kept = json.loads(source.read("generator/generation.json")) | settings
        files = {"generation.json": json.dumps({k: v for k, v in kept.items() if v is not None}).encode()} | (
            files or {}
        )
        for member in source.namelist():
            target.writestr(member, files.get(member.removeprefix("generator/"), source.read(member)))
    return written.getvalue()


def publish(publisher: Principal, name: str = "babbler") -> None:
    """Live under `<publisher>/<name>`, with plans by token; its artefact goes into settings.OBJECTS_DIR."""
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "babbler.zip"
        path.write_bytes(archive())
        llm.publish(publisher, path, name=name)


@dataclass(frozen=True)
class Delta:
    text: str
    tokens: int
    prompt_tokens: int
    reason: str


@dataclass(frozen=True)
class Answer:
    """`drawn`: tokens of the answer alone."""

    text: str
    drawn: int
    reason: str


async def stream(address: str, model: str, prompt: str | bytes, **parameters: Any) -> AsyncGenerator[Delta]:
    """Each response of the model. A character that is not whole raises UnicodeDecodeError."""
    content = prompt.encode() if isinstance(prompt, str) else prompt
    text = Tensor("text_input", Datatype.BYTES, (1,), len(content).to_bytes(4, "little") + content)
    request = InferenceRequest((text,), parameters=parameters)
    async with aclosing(gateway.stream(address, model, request, timeout=PATIENCE)) as responses:
        async for response in responses:
            outputs = {tensor.name: tensor.content for tensor in response}
            tokens, prompt_tokens = (
                int.from_bytes(outputs[name], "little") for name in ("token_count", "prompt_token_count")
            )
            yield Delta(
                outputs["text_output"][4:].decode(), tokens, prompt_tokens, outputs["finish_reason"][4:].decode()
            )


async def ask(address: str, model: str, prompt: str | bytes, **parameters: Any) -> Answer:
    """All of it."""
    deltas = [delta async for delta in stream(address, model, prompt, **parameters)]
    tokens = sum(delta.tokens for delta in deltas)
    return Answer("".join(delta.text for delta in deltas), tokens - deltas[-1].prompt_tokens, deltas[-1].reason)
