"""Every demo model answers on a real Triton as its graph does in ONNX Runtime alone: to within 1e-5 (fp32)."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from inference import gateway
from inference.formats import read_signature
from inference.tensors import RawTensor, read_request
from tests.demo.test_artifacts import CATALOGUE, described
from tests.demo.test_minilm import BANK, DOG, PUPPY, embed
from tests.inference.conftest import Deploy

SENTENCES = [
    "A dog runs through the park.",
    "A puppy is running in a garden.",
    "The central bank raised interest rates.",
]


async def answer(triton: str, deploy: Deploy, artifact: bytes, model_format: str, inputs: list[RawTensor]) -> Any:
    request = read_request(read_signature(artifact, model_format), inputs)
    name = await deploy(artifact, model_format)
    (output,) = await gateway.infer(triton, name, request, timeout=20)
    return np.array(output.data())


@pytest.mark.parametrize(
    ("model", "artifact"),
    [
        ("add", "v1.onnx"),
        ("digits", "v1.onnx"),
        ("digits", "v2.onnx"),
        ("sentiment", "v1.onnx"),
        ("tumour", "v1.onnx"),
    ],
)
async def test_the_example_gets_the_same_answer(triton: str, deploy: Deploy, model: str, artifact: str) -> None:
    content = (CATALOGUE / model / artifact).read_bytes()
    examples = described(model)["inputs"]
    inputs = [
        RawTensor(
            tensor["name"],
            "BYTES" if tensor["contentType"] == "text/plain" else "FP32",
            tensor["exampleShape"],
            tensor["example"],
        )
        for tensor in examples
    ]

    on_triton = await answer(triton, deploy, content, "onnx", inputs)

    arrays = {
        tensor["name"]: np.array(
            tensor["example"], object if tensor["contentType"] == "text/plain" else np.float32
        ).reshape(tensor["exampleShape"])
        for tensor in examples
    }
    (alone,) = onnxruntime.InferenceSession(content).run(None, arrays)
    assert np.allclose(on_triton, alone, rtol=0, atol=1e-5)


@pytest.fixture
def ensemble(minilm_archive: Path) -> bytes:
    return minilm_archive.read_bytes()


async def test_sentences_are_tokenised_and_embedded(triton: str, deploy: Deploy, ensemble: bytes) -> None:
    text = [RawTensor("text", "BYTES", [3], SENTENCES)]

    on_triton = await answer(triton, deploy, ensemble, "ensemble", text)

    alone = embed(zipfile.ZipFile(BytesIO(ensemble)).read("network/model.onnx"), DOG, PUPPY, BANK)
    assert np.allclose(on_triton, alone, rtol=0, atol=1e-5)
