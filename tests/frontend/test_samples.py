"""Code samples survive what models take, and each door has those that fit the model.

tests/browser/test_playground.py runs them as they are printed.
"""

import json
import subprocess
from typing import Any

import pytest

from frontend.samples import WIDTH, Door, Place, doors

PLACE = Place("http://host:8080", "host:8081", tls=False)
TEXT = {
    "name": "text",
    "datatype": "BYTES",
    "shape": [-1],
    "example": ["It's \"fine\", isn't it?\n😀 $HOME `id` {braces}"],
    "exampleShape": [1],
}
IMAGE = {
    "name": "image",
    "datatype": "FP32",
    "shape": [-1, 1, 28, 28],
    "example": [0.5, 0] * 392,
    "exampleShape": [1, 1, 28, 28],
}
MASK = {"name": "mask", "datatype": "BOOL", "shape": [2], "example": [True, False], "exampleShape": [2]}
HALVES = {"name": "halves", "datatype": "FP16", "shape": [2], "example": [0.5, 1.5], "exampleShape": [2]}
PROMPT = TEXT | {"name": "text_input", "shape": [1]}
WRITTEN = {"name": "text_output", "datatype": "BYTES", "shape": [1]}
VECTORS = {"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}


def found(
    *tensors: dict[str, Any], task: str = "OTHER", tags: tuple[str, ...] = (), outputs: Any = (), place: Place = PLACE
) -> list[Door]:
    live = {"inputs": list(tensors), "outputs": list(outputs)}
    return doors(place, {"ref": "a/b", "task": task, "tags": list(tags), "liveVersion": live})


def codes(*tensors: dict[str, Any], **options: Any) -> dict[str, str]:
    return {sample.slug: sample.code for door in found(*tensors, **options) for sample in door.samples}


@pytest.mark.parametrize("tensor", [TEXT, IMAGE, MASK])
@pytest.mark.parametrize("slug", ["graphql-curl", "rest-curl"])
def test_the_shell_hands_curl_the_example_as_it_is(tensor: dict[str, Any], slug: str) -> None:
    command = codes(tensor)[slug].replace("curl ", "printf '%s\\0' ", 1)

    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split("\0")

    body = json.loads(told[told.index("-d") + 1])
    given = body["variables"]["input"] if slug.startswith("graphql") else body
    assert given["inputs"][0]["data"] == tensor["example"]


@pytest.mark.parametrize("tensor", [TEXT, IMAGE, MASK])
@pytest.mark.parametrize(
    ("slug", "name"), [("graphql-python", "input"), ("rest-python", "tensors"), ("grpc-python", "tensors")]
)
def test_python_reads_the_example_as_it_is(tensor: dict[str, Any], slug: str, name: str) -> None:
    code = codes(tensor)[slug]
    names: dict[str, Any] = {}

    compile(code, "sample", "exec")
    start = code.index(f"\n{name} =")
    exec(code[start : code.index("\n\n", start + 1)], names)

    given = names["input"]["inputs"][0]["data"] if name == "input" else names["tensors"][0][-1]
    assert given == tensor["example"]


def test_long_tensors_are_wrapped() -> None:
    code = codes(IMAGE)["graphql-javascript"]

    lines = code[code.index("const input") : code.index("const response")].splitlines()
    assert max(map(len, lines)) < WIDTH + 20


def test_a_model_without_examples_has_no_samples() -> None:
    assert codes(TEXT | {"example": None}) == {}
    assert codes() == {}
    assert doors(PLACE, {"ref": "a/b", "task": "OTHER", "tags": [], "liveVersion": None}) == []


def test_what_json_cannot_carry_is_not_sent_by_it() -> None:
    assert "rest-curl" not in codes(HALVES)
    assert "float16" in codes(HALVES)["rest-python"]


@pytest.mark.parametrize(
    ("options", "slugs"),
    [
        ({}, ["graphql", "rest", "grpc"]),
        ({"task": "TEXT_EMBEDDING", "outputs": [VECTORS]}, ["graphql", "rest", "grpc", "openai"]),
        ({"task": "TEXT_EMBEDDING"}, ["graphql", "rest", "grpc"]),
        ({"task": "TEXT_CLASSIFICATION", "outputs": [VECTORS]}, ["graphql", "rest", "grpc"]),
    ],
)
def test_the_doors_are_those_that_fit_the_model(options: dict[str, Any], slugs: list[str]) -> None:
    assert [door.slug for door in found(TEXT, **options)] == slugs


@pytest.mark.parametrize(("tags", "path"), [(("chat",), "/v1/chat/completions"), ((), "/v1/completions")])
def test_a_model_that_writes_is_streamed_by_each_door_that_can(tags: tuple[str, ...], path: str) -> None:
    written = codes(PROMPT, task="TEXT_GENERATION", outputs=[WRITTEN], tags=tags)

    assert path in written["openai-curl"]
    assert "text/event-stream" in written["graphql-curl"]
    assert "start_stream" in written["grpc-python"]
    for slug, code in written.items():
        if slug.endswith("python"):
            compile(code, slug, "exec")


def test_encrypted_doors_are_printed_as_such() -> None:
    written = codes(TEXT, place=Place("https://models.example", "models.example:443", tls=True))

    assert 'InferenceServerClient("models.example", ssl=True)' in written["rest-python"]
    assert 'InferenceServerClient("models.example:443", ssl=True)' in written["grpc-python"]
