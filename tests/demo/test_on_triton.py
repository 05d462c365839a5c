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
    signature = read_signature(artifact, model_format)
    request = read_request(signature, inputs, [signature.outputs[0].name])
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


async def test_token_ids_are_embedded_as_their_sentence(triton: str, deploy: Deploy, ensemble: bytes) -> None:
    name = await deploy(ensemble, "ensemble")
    signature = read_signature(ensemble, "ensemble")

    async def embedded(*texts: str, **parameters: bool) -> tuple[bytes, ...]:
        text = RawTensor("text", "BYTES", [len(texts)], list(texts))
        request = read_request(signature, [text], ["embedding", "token_count"], parameters)
        return tuple(tensor.content for tensor in await gateway.infer(triton, name, request, timeout=20))

    as_text = await embedded(*SENTENCES)

    assert await embedded(*map(str, (DOG, PUPPY, BANK)), token_ids=True) == as_text
    assert await embedded(*(str(ids[1:-1]) for ids in (DOG, PUPPY, BANK)), token_ids=True) == as_text
    assert np.frombuffer(as_text[1], "<i8").tolist() == [9, 10, 9]
