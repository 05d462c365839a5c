"""What a call over REST may ask for, and what it is told besides its outputs."""

import gzip
import json
import zlib

import httpx
import pytest

from tests.doors import counter
from tests.doors.rest_v2.messages import message, ours, output, same, tensor
from tests.doors.site import Site

ADD = "openlab/add"
LONG = [float(number) for number in range(1000)]
OPERANDS = [tensor("A", "FP32", [3], [0.1, 5, 3]), tensor("B", "FP32", [3], [0, 0, 0])]


def test_an_answer_names_the_call(site: Site) -> None:
    key = site.customer(ADD)

    answer = ours(site, ADD, *message(OPERANDS, id="mine"), who=key)

    (hold,) = site.holds(key)
    assert list(answer.message) == ["id", "model_name", "model_version", "outputs"]
    assert answer.message["id"] == "mine"
    assert answer.headers["x-invocation-id"] == str(hold.id)
    assert hold.charged == 1


def test_a_version_may_be_named(site: Site) -> None:
    digits = json.loads(message([tensor("image", "FP32", [1, 1, 28, 28], [0] * 784)])[0])
    names = httpx.get(f"{site.url}/v2/models/openlab/digits", verify=False).json()["inputs"]
    digits["inputs"][0]["name"] = names[0]["name"]

    def version(path: str) -> str:
        headers = site.headers("subscriber")
        answer = httpx.post(
            f"{site.url}/v2/models/openlab/digits{path}/infer", json=digits, headers=headers, verify=False
        )
        return str(answer.json()["model_version"])

    assert [version(path) for path in ("", "/versions/1", "/versions/2")] == ["1", "1", "2"]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_classes_are_ranked_as_triton_ranks_them(site: Site, binary: bool) -> None:
    asked = [output("SUM", classification=2, binary_data=binary)]

    answer = same(site, ADD, *message(OPERANDS, asked))

    if not binary:
        assert answer.message["outputs"][0]["data"] == ["5.000000:1", "3.000000:2"]


def test_classes_have_the_publishers_names(site: Site) -> None:
    """Triton was not given them, so it names none."""
    (spec,) = httpx.get(f"{site.url}/v2/models/openlab/digits", verify=False).json()["inputs"]
    image = tensor(spec["name"], "FP32", [1, *spec["shape"][1:]], [0] * 784)
    (of,) = httpx.get(f"{site.url}/v2/models/openlab/digits", verify=False).json()["outputs"]

    answer = ours(site, "openlab/digits", *message([image], [output(of["name"], classification=3)]))

    for text in answer.message["outputs"][0]["data"]:
        _value, index, label = text.split(":")
        assert label == index  # the digits are called "0" to "9"


def test_what_cannot_be_ranked_is_refused_before_it_is_charged(site: Site) -> None:
    key = site.customer("openlab/identity-bf16")
    asked = message([tensor("in_BF16", "BF16", [1, 2], [1, 2])], [output("out_BF16", classification=1)])

    answer = ours(site, "openlab/identity-bf16", *asked, who=key)

    assert answer.status == 400
    assert site.holds(key) == []


def test_an_idempotency_key_charges_once_and_gives_the_same_answer(site: Site) -> None:
    key = site.customer(ADD)
    body, headers = message(OPERANDS)

    first = ours(site, ADD, body, {**headers, "Idempotency-Key": "1"}, who=key)
    second = ours(site, ADD, body, {**headers, "Idempotency-Key": "1"}, who=key)

    assert first.message == second.message
    assert first.headers["x-invocation-id"] == second.headers["x-invocation-id"]
    assert [hold.charged for hold in site.holds(key)] == [1]


def test_an_idempotency_key_is_for_one_request(site: Site) -> None:
    key = site.customer(ADD)
    other = [OPERANDS[0], tensor("B", "FP32", [3], [1, 1, 1])]
    assert ours(site, ADD, message(OPERANDS)[0], {"Idempotency-Key": "1"}, who=key).status == 200

    assert ours(site, ADD, message(other)[0], {"Idempotency-Key": "1"}, who=key).status == 409


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_and_answers_may_be_compressed(site: Site, encoding: str) -> None:
    long = [tensor("A", "FP32", [1000], LONG), tensor("B", "FP32", [1000], LONG)]
    body, headers = message(long, parameters={"binary_data_output": True})
    plain = ours(site, ADD, body, headers)
    compressed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    sent = {**headers, **site.headers("subscriber"), "Content-Encoding": encoding, "Accept-Encoding": encoding}

    with httpx.Client(verify=False) as client:
        request = client.build_request("POST", f"{site.url}/v2/models/{ADD}/infer", content=compressed, headers=sent)
        answer = client.send(request, stream=True)
        raw = b"".join(answer.iter_raw())
        answer.close()

    assert answer.headers["content-encoding"] == encoding
    assert answer.headers["inference-header-content-length"] == plain.headers["inference-header-content-length"]
    assert len(raw) < len(plain.contents)
    inflated = gzip.decompress(raw) if encoding == "gzip" else zlib.decompress(raw)
    assert inflated.endswith(plain.contents)


def test_a_parameter_goes_on_to_the_model(site: Site) -> None:
    assert ours(site, ADD, *message(OPERANDS, parameters={"x": 1, "a.y-1": "z", "t": True})).status == 200


def test_a_body_in_chunks_is_read_too(site: Site) -> None:
    body, headers = message(OPERANDS)

    answer = httpx.post(
        f"{site.url}/v2/models/{ADD}/infer",
        content=iter([body[:10], body[10:]]),
        headers={**headers, **site.headers("subscriber")},
        verify=False,
    )

    assert answer.json()["outputs"][0]["shape"] == [3]


def test_a_model_that_streams_answers_once_with_all_of_it(site: Site) -> None:
    key = counter.put_up(site, site.triton_grpc)

    answer = ours(site, counter.REF, *message([tensor("times", "INT64", [1], [5])], [output("number")]), who=key)

    assert [(each["name"], each["data"]) for each in answer.message["outputs"]] == [("number", [5])]
    assert [hold.charged for hold in site.holds(key)] == [6]
