"""Bodies inflate as far as they may and no further; an answer is compressed as its reader prefers."""

import gzip
import zlib

import pytest

from inference.dataplane.rest_v2.compression import MANY_BYTES, accepted, deflated, inflated
from marketplace.errors import PayloadTooLarge, ValidationProblem

MOST = 1024 * 1024
SMALL, LARGE = b"text", b"text" * MANY_BYTES


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["nothing", "a little", "a lot"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_was_compressed_comes_back(encoding: str, content: bytes) -> None:
    assert await inflated(await deflated(content, encoding), encoding, MOST) == content


async def test_gzip_may_have_several_members() -> None:
    assert await inflated(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", MOST) == b"ab"


@pytest.mark.parametrize("parts", [1, 3])
async def test_one_byte_too_many_is_refused(parts: int) -> None:
    exact = b"".join(gzip.compress(bytes(1000)) for _ in range(parts))

    assert len(await inflated(exact, "gzip", 1000 * parts)) == 1000 * parts
    with pytest.raises(PayloadTooLarge):
        await inflated(exact, "gzip", 1000 * parts - 1)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"nonsense"),
        ("gzip", gzip.compress(SMALL)[:-1]),
        ("gzip", gzip.compress(SMALL) + b"more"),
        ("deflate", zlib.compress(SMALL)[2:]),
        ("deflate", gzip.compress(SMALL)),
    ],
    # gzip notes the time: left to their contents, names of tests would differ from one process to the next.
    ids=["nonsense", "cut short", "with more behind", "without zlib's header", "as the other"],
)
async def test_what_is_not_compressed_so_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(ValidationProblem):
        await inflated(body, encoding, MOST)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("br, gzip", "gzip"),
        ("deflate;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("*", None),
        ("", None),
        ("gzip;q=nonsense", None),
    ],
)
def test_the_encoding_of_an_answer(header: str, encoding: str | None) -> None:
    assert accepted(header) == encoding
