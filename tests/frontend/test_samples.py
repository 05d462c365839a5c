"""Code samples survive what models take: quotes, line breaks, long tensors."""

import json
import subprocess
from typing import Any

import pytest

from frontend.samples import WIDTH, samples

TEXT = {
    "name": "text",
    "datatype": "BYTES",
    "example": ["It's \"fine\", isn't it?\n😀 $HOME `id`"],
    "exampleShape": [1],
}
IMAGE = {"name": "image", "datatype": "FP32", "example": [0.5, 0] * 392, "exampleShape": [1, 1, 28, 28]}
MASK = {"name": "mask", "datatype": "BOOL", "example": [True, False], "exampleShape": [2]}


def codes(*tensors: dict[str, Any]) -> dict[str, str]:
    return {found.slug: found.code for found in samples(url="http://host/graphql", ref="a/b", tensors=list(tensors))}


@pytest.mark.parametrize("tensor", [TEXT, IMAGE, MASK])
def test_the_shell_hands_curl_the_example_as_it_is(tensor: dict[str, Any]) -> None:
    command = codes(tensor)["curl"].replace("curl ", "printf '%s\\0' ", 1)

    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split("\0")

    body = json.loads(told[told.index("-d") + 1])
    assert body["variables"]["input"]["inputs"][0]["data"] == tensor["example"]


@pytest.mark.parametrize("tensor", [TEXT, IMAGE, MASK])
def test_python_reads_the_example_as_it_is(tensor: dict[str, Any]) -> None:
    code = codes(tensor)["python"]
    names: dict[str, Any] = {}

    compile(code, "sample", "exec")
    exec(code[code.index("inputs =") : code.index("request =")], names)

    assert names["inputs"][0]["data"] == tensor["example"]


def test_long_tensors_are_wrapped() -> None:
    code = codes(IMAGE)["javascript"]

    lines = code[code.index("const inputs") : code.index("const response")].splitlines()
    assert max(map(len, lines)) < WIDTH + 20


def test_a_model_without_examples_has_no_samples() -> None:
    assert codes(TEXT | {"example": None}) == {}
    assert codes() == {}
