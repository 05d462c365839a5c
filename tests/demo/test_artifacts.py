"""What the catalogue publishes: graphs that any ONNX Runtime since 2022 loads, with the promised signatures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

CATALOGUE = Path(__file__).parents[2] / "demo" / "catalogue"
COMMITTED = ["add/v1.onnx", "digits/v1.onnx", "digits/v2.onnx", "sentiment/v1.onnx", "tumour/v1.onnx"]
MODELS = ["add", "digits", "minilm", "sentiment", "tumour"]


def infer(artifact: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(CATALOGUE / artifact)
    (output,) = session.run(None, inputs)
    return np.asarray(output)


def described(model: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads((CATALOGUE / model / "model.json").read_text())
    return description


@pytest.mark.parametrize("artifact", COMMITTED)
def test_graphs_are_opset_17_and_ir_8_and_pass_the_checker(artifact: str) -> None:
    model = onnx.load(CATALOGUE / artifact)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert {opset.version for opset in model.opset_import if opset.domain == ""} == {17}


@pytest.mark.parametrize("artifact", COMMITTED)
def test_graphs_are_small_enough_for_a_repository(artifact: str) -> None:
    assert (CATALOGUE / artifact).stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("artifact", "inputs", "outputs"),
    [
        ("add/v1.onnx", {"A": ("float", [None]), "B": ("float", [None])}, {"SUM": ("float", [None])}),
        ("digits/v1.onnx", {"image": ("float", [None, 1, 28, 28])}, {"scores": ("float", [None, 10])}),
        ("digits/v2.onnx", {"image": ("float", [None, 1, 28, 28])}, {"scores": ("float", [None, 10])}),
        ("sentiment/v1.onnx", {"text": ("string", [None])}, {"scores": ("float", [None, 2])}),
        ("tumour/v1.onnx", {"features": ("float", [None, 30])}, {"probability": ("float", [None, 2])}),
    ],
)
def test_signatures_are_as_promised(artifact: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    session = onnxruntime.InferenceSession(CATALOGUE / artifact)

    def signature(tensors: list[Any]) -> dict[str, Any]:
        return {
            tensor.name: (
                tensor.type.removeprefix("tensor(").removesuffix(")"),
                [size if isinstance(size, int) else None for size in tensor.shape],
            )
            for tensor in tensors
        }

    assert signature(session.get_inputs()) == inputs
    assert signature(session.get_outputs()) == outputs


def test_add_adds() -> None:
    total = infer("add/v1.onnx", A=np.float32([1.5, -1]), B=np.float32([2.25, 1]))
    assert total.tolist() == [3.75, 0]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_digits_reads_each_sample(version: str) -> None:
    samples = json.loads((CATALOGUE / "digits" / "samples.json").read_text())
    images = np.array([samples[str(digit)] for digit in range(10)], np.float32).reshape(10, 1, 28, 28)
    scores = infer(f"digits/{version}.onnx", image=images)
    assert scores.argmax(axis=1).tolist() == list(range(10))
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "positive"),
    [
        ("I love this wonderful film.", True),
        ("What a GREAT phone!", True),
        ("The plot is dull and the acting is worse.", False),
        ("A terrible waste of money :(", False),
    ],
)
def test_sentiment_tells_praise_from_blame(text: str, positive: bool) -> None:
    ((negative_score, positive_score),) = infer("sentiment/v1.onnx", text=np.array([text], object))
    assert (positive_score > negative_score) is np.bool_(positive)


@pytest.mark.parametrize("text", ["", "   ", "¿?", "北京", "a" * 100_000, "nul \0 byte"])
def test_sentiment_answers_for_any_text(text: str) -> None:
    scores = infer("sentiment/v1.onnx", text=np.array([text, "fine"], object))
    assert np.isfinite(scores).all()
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_sentiment_gives_a_text_the_same_scores_alone_and_in_company() -> None:
    alone = infer("sentiment/v1.onnx", text=np.array(["A good day."], object))
    together = infer("sentiment/v1.onnx", text=np.array(["A good day.", "one two three four five six seven"], object))
    assert np.allclose(alone[0], together[0], atol=1e-6)


def test_tumour_takes_the_tables_raw_values() -> None:
    example = described("tumour")["inputs"][0]["example"]
    ((malignant, benign),) = infer("tumour/v1.onnx", features=np.array([example], np.float32))
    assert malignant > 0.5
    assert malignant + benign == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_every_example_fits_its_input(model: str) -> None:
    for tensor in described(model)["inputs"]:
        assert len(tensor["example"]) == np.prod(tensor["exampleShape"])


@pytest.mark.parametrize("model", ["add", "digits", "sentiment", "tumour"])
def test_labels_name_every_index(model: str) -> None:
    description = described(model)
    for version in description["versions"]:
        session = onnxruntime.InferenceSession(CATALOGUE / model / version["artifact"])
        sizes = {tensor.name: tensor.shape[-1] for tensor in [*session.get_inputs(), *session.get_outputs()]}
        assert set(sizes) == {tensor["name"] for tensor in description["inputs"] + description["outputs"]}
        for tensor in description["inputs"] + description["outputs"]:
            if tensor["labels"]:
                assert len(tensor["labels"]) == sizes[tensor["name"]]


@pytest.mark.parametrize(
    ("model", "quoted"),
    [
        ("digits", ["{trainImages:,}", "{testImages:,}", "{v1Accuracy:.2%}", "{v2Accuracy:.2%}", "{agreement:.1%}"]),
        ("sentiment", ["{trainTexts:,}", "{testTexts:,}", "{accuracy:.1%}", "{macroF1:.3f}", "{clearAccuracy:.1%}"]),
        ("tumour", ["{trainRows}", "{testRows}", "{accuracy:.1%}", "{rocAuc:.4f}", "{malignantRecall:.1%}"]),
    ],
)
def test_cards_quote_what_was_measured(model: str, quoted: list[str]) -> None:
    measured = json.loads((CATALOGUE / model / "measurements.json").read_text())
    card = (CATALOGUE / model / "card.md").read_text()
    for figure in quoted:
        assert figure.format(**measured).replace("%", " %") in card


@pytest.mark.parametrize("model", MODELS)
def test_cards_say_data_accuracy_licence_and_limits(model: str) -> None:
    card = (CATALOGUE / model / "card.md").read_text()
    for heading in ("Data", "ccuracy", "Licence", "Limits"):
        assert any(line.startswith("## ") and heading in line for line in card.splitlines())
