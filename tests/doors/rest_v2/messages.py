"""Requests of the Open Inference Protocol as bytes, sent to us or to the Triton behind us, and what comes back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from inference.tensors import Tensor
from tests.doors.site import Site

HEADER_LENGTH = "Inference-Header-Content-Length"


class Answer(NamedTuple):
    """`contents`: of the binary outputs, one behind another."""

    status: int
    message: Any
    contents: bytes
    headers: httpx.Headers


def tensor(name: str, datatype: str, shape: Sequence[int], data: object) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}


def message(
    inputs: Sequence[dict[str, Any] | Tensor], outputs: object = None, **members: object
) -> tuple[bytes, dict[str, str]]:
    """The body and its headers. A Tensor goes as binary, a dict as it is."""
    described, contents = [], b""
    for each in inputs:
        if isinstance(each, Tensor):
            size = {"binary_data_size": len(each.content)}
            contents += each.content
            described.append(
                {"name": each.name, "datatype": each.datatype.value, "shape": each.shape, "parameters": size}
            )
        else:
            described.append(each)
    asked = {"inputs": described, **members} | ({} if outputs is None else {"outputs": outputs})
    head = json.dumps(asked).encode()
    return head + contents, {HEADER_LENGTH: str(len(head))}


def output(name: str, **parameters: object) -> dict[str, Any]:
    return {"name": name, "parameters": parameters}


def infer(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    # verify: reading the machine's certificates takes longer than the call.
    response = httpx.post(
        url, content=body, headers={"Accept-Encoding": "identity", **headers}, timeout=60, verify=False
    )
    length = int(response.headers.get(HEADER_LENGTH, len(response.content)))
    return Answer(
        response.status_code, json.loads(response.content[:length]), response.content[length:], response.headers
    )


def ours(site: Site, ref: str, body: bytes, headers: Mapping[str, str], *, who: str = "subscriber") -> Answer:
    return infer(f"{site.url}/v2/models/{ref}/infer", body, {**headers, **site.headers(who)})


def direct(site: Site, ref: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """What the Triton behind us answers to the same."""
    name = site.version(ref).triton_name
    return infer(f"http://{site.triton_http}/v2/models/{name}/infer", body, headers)


def same(site: Site, ref: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Our answer, which is Triton's but for the names of the model and its version."""
    mine, triton = ours(site, ref, body, headers), direct(site, ref, body, headers)
    assert (mine.status, triton.status) == (200, 200), (mine, triton)
    # An ensemble's answer has parameters, which nobody set.
    triton.message.pop("parameters", None)
    # Its text, in which NaN equals NaN.
    expected = {**triton.message, "model_name": ref, "model_version": "1"}
    assert repr(mine.message) == repr(expected)
    assert mine.contents == triton.contents
    assert mine.headers["content-type"] == triton.headers["content-type"]
    return mine
