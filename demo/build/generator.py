"""Artefacts for Triton's backend `generator`: an ensemble archive of that one step."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

INPUTS: list[dict[str, Any]] = [{"name": "text_input", "datatype": "BYTES", "shape": [1]}]
OUTPUTS: list[dict[str, Any]] = [
    {"name": "text_output", "datatype": "BYTES", "shape": [1]},
    {"name": "token_count", "datatype": "INT64", "shape": [1]},
    {"name": "prompt_token_count", "datatype": "INT64", "shape": [1]},
    {"name": "finish_reason", "datatype": "BYTES", "shape": [1]},
]
FILES = ("model.onnx", "tokenizer.json", "generation.json")
ENSEMBLE = {
    "inputs": INPUTS,
    "outputs": OUTPUTS,
    "steps": [
        {
            "name": "generator",
            "backend": "generator",
            "files": {file: f"generator/{file}" for file in FILES},
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "input_map": {tensor["name"]: tensor["name"] for tensor in INPUTS},
            "output_map": {tensor["name"]: tensor["name"] for tensor in OUTPUTS},
        }
    ],
}


def write(destination: Path, *, network: bytes, tokenizer: bytes, settings: Mapping[str, Any]) -> None:
    """`settings` become generation.json (inference/backends/generator/model.py). Equal arguments make equal bytes."""
    contents = (network, tokenizer, json.dumps(settings, indent=2).encode())
    # Stored, not deflated: weights hardly shrink, and zlib's output differs between its builds.
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("ensemble.json", ZIP_EPOCH), json.dumps(ENSEMBLE, indent=2))
        for file, content in zip(FILES, contents, strict=True):
            archive.writestr(zipfile.ZipInfo(f"generator/{file}", ZIP_EPOCH), content)
