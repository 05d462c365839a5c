"""Small ensembles, as a publisher would upload them."""

import io
import json
import zipfile
from typing import Any

from inference.tensors import Datatype, Signature, TensorSpec

TEXT = Signature(
    (TensorSpec("text", Datatype.BYTES, (-1,)),),
    (TensorSpec("input_ids", Datatype.INT64, (-1, -1)), TensorSpec("attention_mask", Datatype.INT64, (-1, -1))),
)
# One that says how many tokens there were, as plans by token need it.
COUNTED = Signature(
    TEXT.inputs, (TensorSpec("input_ids", Datatype.INT64, (-1, -1)), TensorSpec("token_count", Datatype.INT64, (-1,)))
)


def described(signature: Signature) -> dict[str, Any]:
    return {
        kind: [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
        for kind, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }


def step(
    name: str, backend: str, signature: Signature, input_map: dict[str, str], output_map: dict[str, str]
) -> dict[str, Any]:
    file = {"onnxruntime": "model.onnx", "tokenizer": "tokenizer.json"}.get(backend, "model.py")
    return {
        "name": name,
        "backend": backend,
        "files": {file: f"{name}/{file}"},
        **described(signature),
        "input_map": input_map,
        "output_map": output_map,
    }


def archive(signature: Signature, *steps: dict[str, Any], files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as zipped:
        zipped.writestr("ensemble.json", json.dumps({**described(signature), "steps": steps}))
        for path, content in files.items():
            zipped.writestr(path, content)
    return written.getvalue()


def words(*vocabulary: str, framed: bool = False) -> bytes:
    """A tokenizer.json that numbers these words from 2; what it says of its training's padding is not for us.

    `framed`: it puts the last two around each text.
    """
    known = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *vocabulary])}
    cls, sep = list(known.items())[-2:]
    frame = {"type": "BertProcessing", "cls": cls, "sep": sep}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": {
                "strategy": {"Fixed": 128},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": frame if framed else None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": known,
                "unk_token": "[UNK]",
            },
        }
    ).encode()


def pipeline(tokenizer: bytes, signature: Signature = TEXT) -> bytes:
    """An ensemble of a tokenizer alone, with these of its outputs."""
    maps = {"text": "text"}, {spec.name: spec.name for spec in signature.outputs}
    tokenize = step("tokenizer", "tokenizer", signature, *maps)
    return archive(signature, tokenize, files={"tokenizer/tokenizer.json": tokenizer})
