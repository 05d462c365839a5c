"""When two requests are the same, and how an answer is kept."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from inference.tensors import Datatype, InferenceRequest, Tensor, digest, pack, packed_digest, parse, unpack

A = Tensor("A", Datatype.UINT8, (2,), b"\x01\x02")
B = Tensor("B", Datatype.UINT8, (2,), b"\x03\x04")
ASKED = digest("acme/add", 1, InferenceRequest((A, B), ("SUM",), {"k": 1}))


def test_the_order_of_inputs_and_of_parameters_says_nothing() -> None:
    one = InferenceRequest((A, B), None, {"k": 1, "l": 2})
    other = InferenceRequest((B, A), None, {"l": 2, "k": 1})

    assert digest("acme/add", 1, one) == digest("acme/add", 1, other)


def test_data_and_base64_of_the_same_bytes_are_the_same() -> None:
    data = parse("A", Datatype.UINT8, [2], data=[1, 2], path="")
    encoded = parse("A", Datatype.UINT8, [2], base64="AQI=", path="")

    assert digest("acme/add", None, InferenceRequest((data,))) == digest("acme/add", None, InferenceRequest((encoded,)))


def test_anything_else_makes_another_request() -> None:
    def asked(*inputs: Tensor, outputs: tuple[str, ...] | None = ("SUM",), k: int | str = 1) -> InferenceRequest:
        return InferenceRequest(inputs, outputs, {"k": k})

    digests = [
        ASKED,
        digest("acme/sub", 1, asked(A, B)),
        digest("acme/add", 2, asked(A, B)),
        digest("acme/add", None, asked(A, B)),
        digest("acme/add", 1, asked(A, B, outputs=None)),
        digest("acme/add", 1, asked(A, B, outputs=())),
        digest("acme/add", 1, asked(A, B, k=2)),
        digest("acme/add", 1, asked(A, B, k="1")),
        digest("acme/add", 1, asked(A)),
        digest("acme/add", 1, asked(Tensor("A", Datatype.INT8, (2,), A.content), B)),
        digest("acme/add", 1, asked(Tensor("A", Datatype.UINT8, (1, 2), A.content), B)),
        # The same bytes in all, split elsewhere.
        digest(
            "acme/add",
            1,
            asked(Tensor("A", Datatype.UINT8, (1,), b"\x01"), Tensor("B", Datatype.UINT8, (3,), b"\x02\x03\x04")),
        ),
    ]
    assert len(set(digests)) == len(digests)


tensors = st.builds(
    Tensor,
    st.text(alphabet=st.characters(codec="utf-8")),
    st.sampled_from(Datatype),
    st.lists(st.integers(0, 2**40), max_size=4).map(tuple),
    st.binary(),
)


@given(st.lists(tensors, max_size=4))
def test_a_kept_answer_comes_back_as_it_was(answer: list[Tensor]) -> None:
    assert unpack(pack(answer)) == tuple(answer)


@given(st.lists(tensors, max_size=4))
def test_an_answer_s_digest_is_that_of_what_is_kept(answer: list[Tensor]) -> None:
    assert packed_digest(answer) == hashlib.sha256(pack(answer)).digest()
