"""What a model is for, by its task and its tensors: `model` and `version` as `pages/model.graphql` asks for them."""

from typing import Any

PROMPT, TEXT = "text_input", "text_output"


def writes(model: dict[str, Any], version: dict[str, Any]) -> bool:
    """A text for a prompt, piece by piece."""
    return (
        model["task"] == "TEXT_GENERATION"
        and _declared(version["inputs"]) == [(PROMPT, "BYTES", (1,))]
        and (TEXT, "BYTES", (1,)) in _declared(version["outputs"])
    )


def embeds(model: dict[str, Any], version: dict[str, Any]) -> bool:
    """A vector for each of any number of texts."""
    vectors = [shape for _name, datatype, shape in _declared(version["outputs"]) if datatype == "FP32"]
    return (
        model["task"] == "TEXT_EMBEDDING"
        and [(datatype, shape) for _name, datatype, shape in _declared(version["inputs"])] == [("BYTES", (-1,))]
        and [(len(shape), shape[0]) for shape in vectors] == [(2, -1)]
    )


def _declared(tensors: list[dict[str, Any]]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(tensor["name"], tensor["datatype"], tuple(int(size) for size in tensor["shape"])) for tensor in tensors]
