"""Every failure, with the status that Triton gives where it has one, in Triton's form, and without a charge."""

import gzip
import json
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from marketplace.access import TenantRole
from tests.doors.rest_v2.messages import HEADER_LENGTH, direct, message, ours, output, tensor
from tests.doors.site import PATIENCE, Server, Site

ADD = "openlab/add"
A = tensor("A", "FP32", [1], [1.5])
B = tensor("B", "FP32", [1], [2.25])
OPERANDS = message([A, B])
MIB = 1024 * 1024


def post(site: Site, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(site.url + path, content=content, headers=sent, timeout=60, verify=False)


def refused(response: httpx.Response, status: int) -> str:
    """The message of an answer in Triton's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    return str(body["error"])


# ---------------------------------------------------------------- who may call what


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Basic dXNlcjpwYXNz", "Bearer nonsense", "revoked", "expired"]
)
def test_without_a_valid_key_nobody_calls(site: Site, authorization: str | None) -> None:
    known = {name: f"Bearer {key}" for name, key in site.keys.items()}
    headers = {} if authorization is None else {"Authorization": known.get(authorization, authorization)}

    answer = post(site, f"/v2/models/{ADD}/infer", OPERANDS[0], **headers)

    assert refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_that_is_not_valid_does_not_pass_for_none(site: Site) -> None:
    answer = httpx.get(f"{site.url}/v2/models/{ADD}", headers=site.headers("revoked"), verify=False)

    assert refused(answer, 401)


@pytest.mark.parametrize("who", ["stranger", "viewer"])
def test_who_may_not_call_is_forbidden_to(site: Site, who: str) -> None:
    assert ours(site, ADD, *OPERANDS, who=who).status == 403


@pytest.mark.parametrize(
    ("path", "who", "words"),
    [
        ("openlab/none", "subscriber", "Request for unknown model: 'openlab/none' is not found"),
        ("openlab/secret", "stranger", "Request for unknown model: 'openlab/secret' is not found"),
        ("openlab/add/versions/9", "subscriber", "Request for unknown model: 'openlab/add' version 9 is not found"),
        (f"openlab/add/versions/{10**30}", "subscriber", "Request for unknown model: 'openlab/add'"),
        ("openlab/add%00", "subscriber", "Request for unknown model: 'openlab/add\0'"),
        ("%ff/add", "subscriber", "Request for unknown model: "),
    ],
)
def test_what_is_not_there_and_what_is_hidden_answer_alike(site: Site, path: str, who: str, words: str) -> None:
    headers = site.headers(who)

    call = post(site, f"/v2/models/{path}/infer", OPERANDS[0], **headers)
    metadata = httpx.get(f"{site.url}/v2/models/{path}", headers=headers, verify=False)
    config = httpx.get(f"{site.url}/v2/models/{path}/config", headers=headers, verify=False)
    ready = httpx.get(f"{site.url}/v2/models/{path}/ready", headers=headers, verify=False)
    stats = httpx.get(f"{site.url}/v2/models/{path}/stats", headers=headers, verify=False)

    assert refused(stats, 400).endswith("is not available")
    assert all(refused(answer, 404).startswith(words) for answer in (call, metadata, config))
    assert refused(ready, 400) == "Model version not ready"


def test_a_name_of_one_word_is_no_models(site: Site) -> None:
    answer = post(site, "/v2/models/add/infer", OPERANDS[0], **site.headers("subscriber"))

    assert refused(answer, 404) == "Request for unknown model: 'add' is not found"


def test_a_private_model_is_described_to_whom_it_was_granted(site: Site) -> None:
    def status(headers: dict[str, str]) -> int:
        return httpx.get(f"{site.url}/v2/models/openlab/secret", headers=headers, verify=False).status_code

    assert status(site.headers("subscriber")) == status(site.headers("owner")) == 200
    assert status({}) == 404


# ---------------------------------------------------------------- what may not be had just now


def test_past_the_quota_calls_are_refused_until_the_next_period(site: Site) -> None:
    key = site.customer(ADD, included_units=1)
    assert ours(site, ADD, *OPERANDS, who=key).status == 200

    answer = ours(site, ADD, *OPERANDS, who=key)

    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 3600
    assert [hold.charged for hold in site.holds(key)] == [1]


def test_past_the_rate_calls_are_refused_for_a_moment(site: Site) -> None:
    key = site.customer(ADD, requests_per_second=1, burst=1)
    with ThreadPoolExecutor(8) as at_once:
        answers = list(at_once.map(lambda _: ours(site, ADD, *OPERANDS, who=key), range(8)))

    limited = next(answer for answer in answers if answer.status == 429)
    assert limited.headers["retry-after"] == "1"


def test_past_its_calls_at_a_time_a_key_is_refused_for_a_moment(site: Site) -> None:
    key = site.customer("openlab/slow")
    body, headers = message([tensor("turns", "INT64", [1], [1_000_000])], parameters={"timeout": 3_000_000})

    def call(server: Server) -> httpx.Response:
        url = f"{server.url}/v2/models/openlab/slow/infer"
        return httpx.post(url, content=body, headers={**headers, **site.headers(key)}, timeout=60, verify=False)

    with site.another_server(CALLS_PER_KEY="1") as server, ThreadPoolExecutor(1) as beside:
        first = beside.submit(call, server)
        while not site.holds(key) and not first.done():
            time.sleep(0.02)
        second = call(server)

        assert refused(second, 429)
        assert second.headers["retry-after"] == "1"
        assert first.result().status_code == 504
    assert len(site.holds(key)) == 1


def test_a_model_that_is_on_no_server_is_unavailable_for_a_moment(site: Site) -> None:
    answer = ours(site, "openlab/unloaded", *OPERANDS)

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_while_triton_is_down_calls_are_unavailable_and_nothing_is_charged(site: Site, without_triton: Server) -> None:
    key = site.customer(ADD)
    answer = httpx.post(
        f"{without_triton.url}/v2/models/{ADD}/infer",
        content=OPERANDS[0],
        headers=site.headers(key),
        timeout=60,
        verify=False,
    )
    ready = httpx.get(f"{without_triton.url}/v2/health/ready", verify=False)

    assert refused(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    assert ready.status_code == 400
    assert [hold.charged for hold in site.holds(key)] == [0]


def test_while_postgresql_is_away_nothing_is_admitted_and_nothing_told(site: Site, without_records: Server) -> None:
    url = f"{without_records.url}/v2"
    call = httpx.post(
        f"{url}/models/{ADD}/infer", content=OPERANDS[0], headers=site.headers("subscriber"), timeout=60, verify=False
    )
    metadata = httpx.get(f"{url}/models/{ADD}", timeout=60, verify=False)
    ready = httpx.get(f"{url}/health/ready", timeout=60, verify=False)
    live = httpx.get(f"{url}/health/live", timeout=60, verify=False)

    for answer in (call, metadata):
        assert refused(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
    assert (ready.status_code, live.status_code) == (400, 200)


def test_a_deadline_that_passes_ends_the_call_and_nothing_is_charged(site: Site) -> None:
    key = site.customer("openlab/slow")
    turns = tensor("turns", "INT64", [1], [1_000_000])

    answer = ours(site, "openlab/slow", *message([turns], parameters={"timeout": 50_000}), who=key)

    assert answer.status == 504
    assert "within 0.0" in answer.message["error"]
    assert [hold.charged for hold in site.holds(key)] == [0]


def test_a_model_that_fails_says_why_as_triton_does(site: Site) -> None:
    key = site.customer("openlab/lookup")
    request = message([tensor("index", "INT64", [1], [9])])

    answer = ours(site, "openlab/lookup", *request, who=key)

    assert answer.status == direct(site, "openlab/lookup", *request).status
    assert "indices element out of data bounds" in answer.message["error"]
    assert [hold.charged for hold in site.holds(key)] == [0]


# ---------------------------------------------------------------- what is wrong with a request


def changed(**change: Any) -> dict[str, Any]:
    return {**B, **change}


BINARY = {"name": "B", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "failed to parse the request JSON buffer"),
    "nothing": (b"", "failed to parse the request JSON buffer"),
    "no UTF-8": (b'{"inputs": "\xff"}', "failed to parse the request JSON buffer"),
    "too deep": (b'{"inputs":' + b"[" * 100_000, "failed to parse the request JSON buffer"),
    "no object": ([], "object"),
    "no inputs": ({}, "inputs"),
    "inputs that are no list": ({"inputs": {}}, "inputs"),
    "a tensor that is none": ({"inputs": [A, 1]}, "inputs.1"),
    "a missing tensor": ({"inputs": [A]}, "'B'"),
    "an unknown tensor": ({"inputs": [A, B, {**B, "name": "C"}]}, "inputs.2.name"),
    "a tensor twice": ({"inputs": [A, A]}, "inputs.1.name"),
    "no name": ({"inputs": [A, changed(name=None)]}, "inputs.1.name"),
    "no datatype": ({"inputs": [A, changed(datatype=1)]}, "inputs.1.datatype"),
    "an unknown datatype": ({"inputs": [A, changed(datatype="NOPE")]}, "inputs.1.datatype"),
    "another datatype": ({"inputs": [A, changed(datatype="FP64")]}, "inputs.1.datatype"),
    "no shape": ({"inputs": [A, changed(shape=None)]}, "inputs.1.shape"),
    "another rank": ({"inputs": [A, changed(shape=[1, 1])]}, "inputs.1.shape"),
    "a negative dimension": ({"inputs": [A, changed(shape=[-1])]}, "inputs.1.shape.0"),
    "a shape past all memory": ({"inputs": [A, changed(shape=[2**62])]}, "inputs.1.shape.0"),
    "too few elements": ({"inputs": [A, changed(data=[])]}, "inputs.1.data"),
    "an element that is no number": ({"inputs": [A, changed(data=["x"])]}, "inputs.1.data.0"),
    "no data": ({"inputs": [A, changed(data=None)]}, "must set only one"),
    "data twice": ({"inputs": [A, {**B, **BINARY}]}, "must set only one"),
    "fewer bytes than it says": ({"inputs": [A, BINARY]}, "expecting 4 additional bytes"),
    "a size that is none": (
        {"inputs": [A, {**BINARY, "parameters": {"binary_data_size": -4}}]},
        "inputs.1.parameters.binary_data_size",
    ),
    "shared memory": (
        {"inputs": [A, {**BINARY, "parameters": {"shared_memory_region": "x"}}]},
        "shared_memory_region",
    ),
    "an id that is none": ({"inputs": [A, B], "id": 42}, "id"),
    "parameters that are none": ({"inputs": [A, B], "parameters": [1]}, "parameters"),
    "a parameter that is none": ({"inputs": [A, B], "parameters": {"x": [1]}}, "parameters.x"),
    "a parameter of Triton's own": ({"inputs": [A, B], "parameters": {"triton_x": 1}}, "parameters"),
    "a timeout that is none": ({"inputs": [A, B], "parameters": {"timeout": "1"}}, "parameters.timeout"),
    "outputs that are none": ({"inputs": [A, B], "outputs": "SUM"}, "outputs"),
    "an output without a name": ({"inputs": [A, B], "outputs": [{}]}, "outputs.0"),
    "an unknown output": ({"inputs": [A, B], "outputs": [{"name": "X"}]}, "outputs.0"),
    "binary or not": ({"inputs": [A, B], "outputs": [output("SUM", binary_data="x")]}, "binary_data"),
    "how many classes": ({"inputs": [A, B], "outputs": [output("SUM", classification=-1)]}, "classification"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_names_what_is_wrong(site: Site, what: str) -> None:
    body, words = WRONG[what]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    answer = post(site, f"/v2/models/{ADD}/infer", content, **site.headers("subscriber"))

    assert words in refused(answer, 400)


@pytest.mark.parametrize("length", ["5", "100000", "-1", "x", "", "²"])
def test_a_wrong_length_of_the_json_is_refused(site: Site, length: str) -> None:
    headers = {**site.headers("subscriber"), HEADER_LENGTH: length.encode("latin-1")}
    answer = httpx.post(
        f"{site.url}/v2/models/{ADD}/infer", content=OPERANDS[0], headers=headers, timeout=60, verify=False
    )

    assert refused(answer, 400)


def test_bytes_behind_the_last_tensor_are_refused(site: Site) -> None:
    answer = ours(site, ADD, OPERANDS[0] + b"zz", OPERANDS[1])

    assert (answer.status, answer.message["error"]) == (400, "inputs: 2 bytes follow the last binary tensor.")


# ---------------------------------------------------------------- compression


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", b"nonsense"),
        ("gzip", gzip.compress(OPERANDS[0])[:-5]),
        ("deflate", zlib.compress(OPERANDS[0])[2:-4]),
        ("deflate", zlib.compress(OPERANDS[0]) + b"more"),
    ],
    ids=("nonsense", "cut short", "without its frame", "more behind it"),
)
def test_a_body_that_is_not_compressed_as_it_says_is_refused(site: Site, encoding: str, content: bytes) -> None:
    answer = post(site, f"/v2/models/{ADD}/infer", content, Content_Encoding=encoding, **site.headers("subscriber"))

    assert refused(answer, 400)


def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(site: Site) -> None:
    answer = post(site, f"/v2/models/{ADD}/infer", OPERANDS[0], Content_Encoding="br", **site.headers("subscriber"))

    assert refused(answer, 501) == "Unsupported compression type"
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_before_it_is_inflated(site: Site, encoding: str) -> None:
    compressor = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(compressor.compress(bytes(MIB)) for _ in range(200)) + compressor.flush()

    answer = post(site, f"/v2/models/{ADD}/infer", bomb, Content_Encoding=encoding, **site.headers("subscriber"))

    assert "bytes, which is the most that is read" in refused(answer, 413)


def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    answer = post(site, f"/v2/models/{ADD}/infer", bytes(91 * MIB), **site.headers("subscriber"))

    assert refused(answer, 413)


def test_an_unknown_caller_is_refused_before_a_large_body_is_read(site: Site) -> None:
    answer = post(site, f"/v2/models/{ADD}/infer", bytes(20 * MIB), **site.headers("revoked"))

    assert refused(answer, 401)


# ---------------------------------------------------------------- paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/nothing",
        "/v2/models",
        "/v2/health/nonsense",
        f"/v2/models/{ADD}/nonsense",
        f"/v2/models/{ADD}/versions/x",
        f"/v2/models/{ADD}/versions/²/infer",
        f"/v2/models/{ADD}/versions//infer",
    ],
)
def test_an_unknown_path_is_not_found(site: Site, path: str) -> None:
    assert refused(httpx.get(site.url + path, verify=False), 404) == "Not Found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2"),
        ("POST", "/v2/health/live"),
        ("POST", f"/v2/models/{ADD}"),
        ("PUT", f"/v2/models/{ADD}/infer"),
        ("GET", f"/v2/models/{ADD}/infer"),
        ("GET", "/v2/repository/index"),
        ("POST", "/v2/models/stats"),
    ],
)
def test_another_method_is_not_allowed(site: Site, method: str, path: str) -> None:
    answer = httpx.request(method, site.url + path, verify=False)

    assert refused(answer, 405) == "Method Not Allowed"
    assert answer.headers["allow"] in ("GET", "POST")


def test_the_index_is_for_callers(site: Site) -> None:
    assert refused(post(site, "/v2/repository/index"), 401)
    assert refused(post(site, "/v2/repository/index", b"nonsense", **site.headers("subscriber")), 400)
    assert refused(post(site, "/v2/repository/index", b'{"ready": 1}', **site.headers("subscriber")), 400)


def test_a_role_that_may_not_call_still_sees_what_there_is(site: Site) -> None:
    billing = site.customer(ADD, role=TenantRole.BILLING)

    assert post(site, "/v2/repository/index", **site.headers(billing)).json()[0]["name"] == ADD


# ---------------------------------------------------------------- callers who leave


def test_a_caller_who_hangs_up_is_not_charged(site: Site) -> None:
    key = site.customer("openlab/slow")
    body, _headers = message([tensor("turns", "INT64", [1], [10**9])])
    host, _colon, port = site.http.partition(":")
    deadline = time.monotonic() + PATIENCE

    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /v2/models/openlab/slow/infer HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        while not site.holds(key) and time.monotonic() < deadline:
            time.sleep(0.02)
    while [hold.state for hold in site.holds(key)] == ["held"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(hold.state, hold.released_because) for hold in site.holds(key)] == [("released", "CANCELLED")]
