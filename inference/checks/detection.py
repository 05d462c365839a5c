"""What an artefact is, by its content and never by a name: what runs, what is converted, what is refused, and why."""

import re
import struct
from collections.abc import Collection

from .refusal import NeedsConversion, Refused

ONNX_ADVICE = "Upload an ONNX model (.onnx), or a zip of one with its external data."

PICKLE = Refused(
    "This is a Python pickle (also what joblib writes). Loading one runs whatever code is in it, so none is loaded.",
    "Convert the model where you trained it: for scikit-learn, `pip install skl2onnx` and "
    '`to_onnx(model, X[:1], options={"zipmap": False}, target_opset=17).SerializeToString()`; for PyTorch, '
    "`torch.onnx.export(model, example, 'model.onnx', opset_version=17)`.",
)
KERAS = Refused(
    "This is a Keras model (.h5 or .keras), which may hold Python code.",
    "Export it as a SavedModel, `model.export('saved')`, and upload that folder as a zip; or convert it with "
    "`python -m tf2onnx.convert --keras model.h5 --opset 17 --output model.onnx`.",
)
TORCH = Refused(
    "This is a PyTorch file (TorchScript or torch.save), which holds Python code or a pickle.",
    "Export it: `torch.onnx.export(model, example, 'model.onnx', opset_version=17, dynamo=False)`.",
)
TREES = Refused(
    "This is a model of XGBoost, LightGBM or CatBoost in its own format, or PMML, and what runs here is ONNX.",
    "Convert it: `onnxmltools.convert_xgboost(model, initial_types=…)`, `onnxmltools.convert_lightgbm(…)`, or for "
    "CatBoost `model.save_model('model.onnx', format='onnx')`; a PMML's model where it was trained, with skl2onnx.",
)
POINTER = Refused(
    "This is a pointer of Git LFS, not the file that it stands for.", "Fetch the file by `git lfs pull`, and upload it."
)
ORT = Refused(
    "This is a model in onnxruntime's own format (.ort), which only the version that wrote it is sure to read.",
    "Upload the .onnx file that it was made from.",
)
SAVED_MODEL_ALONE = Refused(
    "This is the saved_model.pb of a TensorFlow SavedModel without its folder, where the weights are.",
    "Upload the whole folder as a zip, with `variables/` and `assets/`.",
)
WEIGHTS = Refused(
    "This file holds weights alone (safetensors, GGUF or NumPy) and no graph that says what to compute with them.",
    "Export the model with its graph: `optimum-cli export onnx --model <folder> <output>` for a Hugging Face model, or "
    "`torch.onnx.export(model, example, 'model.onnx', opset_version=17)`.",
)
PYTHON = Refused(
    "This is text or Python code, and publishers' code is not run here.",
    "Upload the trained model itself as ONNX. Pre- and post-processing are chosen from the steps that this marketplace "
    "provides.",
)
COMPRESSED = Refused(
    "This is a compressed file or an archive that is not a zip.",
    "Upload the .onnx file as it is, or a zip of it with its external data.",
)
UNKNOWN = Refused("This is not a model in any format that is known here.", ONNX_ADVICE)

# Beginnings of files -> why they are refused.
MAGIC = {
    b"\x89HDF\r\n\x1a\n": KERAS,
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"GGUF": WEIGHTS,
    b"\x93NUMPY": WEIGHTS,
    b"\x1f\x8b": COMPRESSED,
    b"BZh": COMPRESSED,
    b"\xfd7zXZ\x00": COMPRESSED,
    b"7z\xbc\xaf\x27\x1c": COMPRESSED,
    b"(\xb5/\xfd": COMPRESSED,
    b"Rar!": COMPRESSED,
    b"\x04\x22\x4d\x18": COMPRESSED,
    b"\x78\x01": COMPRESSED,
    b"\x78\x9c": COMPRESSED,
    b"\x78\xda": COMPRESSED,
    b"ZF": COMPRESSED,
    b"CBM1": TREES,
    b"binf": TREES,
    b"{L": TREES,
    b"tree\nversion=": TREES,
    b"version https://git-lfs": POINTER,
    b"\x08\x01\x12": SAVED_MODEL_ALONE,
}
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
TFLITE_MAGIC, ORT_MAGIC, FLATBUFFER_OFFSET = b"TFL3", b"ORTM", 4
TAR_MAGIC, TAR_OFFSET = b"ustar", 257
TEXT_SAMPLE_BYTES = 4096
# Of the protocols 0 and 1, which have no beginning of their own: it names what it will call.
OLD_PICKLE = re.compile(rb"[(\]}]{0,3}c[\w.]+\n[\w.]+\n")


def is_zip(artifact: bytes) -> bool:
    return artifact.startswith(ZIP_MAGIC)


def refuse_other_than_onnx(artifact: bytes) -> None:
    """Raises Refused or NeedsConversion for a single file that is something else by its first bytes."""
    if not artifact:
        raise Refused("The file is empty.", ONNX_ADVICE)
    if artifact.startswith(TFLITE_MAGIC, FLATBUFFER_OFFSET):
        raise NeedsConversion("tflite")
    if artifact.startswith(ORT_MAGIC, FLATBUFFER_OFFSET):
        raise ORT
    for magic, refusal in MAGIC.items():
        if artifact.startswith(magic):
            raise refusal
    if artifact[TAR_OFFSET : TAR_OFFSET + 5] == TAR_MAGIC:
        raise COMPRESSED
    if _is_safetensors(artifact):
        raise WEIGHTS
    if OLD_PICKLE.match(artifact):
        raise PICKLE
    sample = artifact[:TEXT_SAMPLE_BYTES]
    if _is_text(sample):
        raise TREES if b'"learner"' in sample or b"<PMML" in sample else PYTHON


def kind_of_zip(names: Collection[str]) -> str:
    """ "onnx-archive" or "ensemble". Raises Refused or NeedsConversion by what else its files say it is."""
    last = {name.rpartition("/")[2] for name in names}
    if "ensemble.json" in names:
        return "ensemble"
    if "saved_model.pb" in last:
        raise NeedsConversion("saved-model")
    if {"config.json", "model.weights.h5"} <= last:
        raise KERAS
    if any(name.endswith(("/data.pkl", "/constants.pkl", "/archive_format")) for name in names):
        raise TORCH
    if any(name.endswith((".pkl", ".pickle", ".joblib")) for name in last):
        raise PICKLE
    models = [name for name in names if name.endswith(".onnx")]
    if models:
        return "onnx-archive"
    if any(name.endswith((".h5", ".keras")) for name in last):
        raise KERAS
    if any(name.endswith((".pt", ".pth", ".pt2", ".ts", "pytorch_model.bin")) for name in last):
        raise TORCH
    if any(name.endswith((".npy", ".npz", ".safetensors", ".gguf")) for name in last):
        raise WEIGHTS
    if any(name.endswith((".py", ".pyc", ".ipynb", ".whl")) for name in last):
        raise PYTHON
    raise Refused("The zip holds no .onnx file, no ensemble.json and no saved_model.pb.", ONNX_ADVICE)


def _is_safetensors(artifact: bytes) -> bool:
    if len(artifact) < 10:
        return False
    (length,) = struct.unpack("<Q", artifact[:8])
    return bool(
        2 <= length <= len(artifact) - 8 and artifact[8:9] == b"{" and artifact[8 : 8 + length].rstrip()[-1:] == b"}"
    )


def _is_text(sample: bytes) -> bool:
    try:
        text = sample.decode("utf-8", "strict" if len(sample) < TEXT_SAMPLE_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
