"""What a message would become in memory is known before it is parsed."""

import tracemalloc

import onnx
import pytest

from inference.checks import archives, wire
from inference.checks.refusal import Refused
from tests.inference.checks.crafted import zip64_directory
from tests.inference.checks.hostile import field


def message(attribute: bytes) -> memoryview:
    return memoryview(b"\x08\x08" + field(7, field(1, field(5, attribute))))


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param(b"\x40\x01\x48\x01" * 60, id="two lists of numbers by turns"),
        pytest.param(b"\x4a\x00" * 110, id="empty texts"),
        pytest.param(b"\x40\x01" * 110 * 32, id="one list of numbers"),
        pytest.param(b"\x3d\x00\x00\x00\x00" * 110 * 13, id="one list of fractions"),
    ],
)
def test_its_fields_are_counted(monkeypatch: pytest.MonkeyPatch, attribute: bytes) -> None:
    monkeypatch.setattr(wire, "MAX_FIELDS", 105)
    with pytest.raises(Refused, match="fields in them"):
        wire.measure(message(attribute), onnx.ModelProto.DESCRIPTOR)


def test_a_list_of_numbers_is_one_run() -> None:
    """As a forest of scikit-learn has them: not packed, and of all lengths."""
    numbers = b"".join(b"\x40" + number for number in (b"\x00", b"\xff\x01", b"\xff" * 9 + b"\x01")) * 1000
    fractions = b"\x3d\x00\x00\x80\x3f" * 1000
    wire.measure(message(b"\x0a\x01a" + numbers + fractions + b"\xa0\x01\x06"), onnx.ModelProto.DESCRIPTOR)


def test_the_directory_of_a_zip_is_measured_before_it_is_read() -> None:
    """Read, 20,000 entries would take some 10 MB."""
    content = zip64_directory(20_000)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="more than 512 files"):
            archives.read(content)
        _size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
