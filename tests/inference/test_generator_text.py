"""From the generator's tokens back to text: whole characters, and nothing of a stop string."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from tests.inference.generators import backend

text = backend("text")


def told(parts: list[bytes], stops: list[str]) -> tuple[list[str], bool]:
    """What is told of text that comes in these parts, and whether a stop string ended it."""
    written, deltas = text.Text(stops), []
    for number, part in enumerate(parts):
        deltas.append(written.add(part, end=number == len(parts) - 1))
        if written.stopped:
            break
    return deltas, written.stopped


def cut(whole: str, stops: list[str]) -> str:
    """As a reader of the whole text would: one character more at a time, until it ends in a stop string."""
    for end in range(len(whole) + 1):
        matched = [stop for stop in stops if whole[:end].endswith(stop)]
        if matched:
            return whole[: end - max(map(len, matched))]
    return whole


def test_a_character_is_told_once_it_is_whole() -> None:
    assert told([b"a\xf0", b"\x9f\x98", b"\x80b"], []) == (["a", "", "😀b"], False)


def test_bytes_that_are_no_character_become_the_replacement_character() -> None:
    assert told([b"\xffa\xc3", b"b\xe2\x82"], []) == (["�a", "�b�"], False)


@pytest.mark.parametrize(
    ("parts", "stops", "deltas"),
    [
        ([b"one t", b"wo", b" three"], ["two"], ["one ", ""]),  # split over parts
        ([b"one t", b"en", b"!"], ["two"], ["one ", "ten", "!"]),  # not one after all
        ([b"one t"], ["two"], ["one t"]),  # only begun at the end
        ([b"abc"], ["c", "abc"], [""]),  # the longer one
        ([b"abc"], ["b", "abc"], ["a"]),  # the first to be complete
        ([b"x", b"two two"], ["two"], ["x", ""]),
    ],
)
def test_what_might_be_a_stop_string_is_held_back(parts: list[bytes], stops: list[str], deltas: list[str]) -> None:
    assert told(parts, stops)[0] == deltas


@given(
    some.lists(some.binary(max_size=4) | some.text("ab€", max_size=3).map(str.encode), min_size=1, max_size=12),
    some.lists(some.text("ab€", min_size=1, max_size=3), max_size=3),
)
@example([b"a", b"a", b"b"], ["ab"])
def test_however_it_is_cut_up_the_text_is_the_same(parts: list[bytes], stops: list[str]) -> None:
    whole = b"".join(parts).decode(errors="replace")
    deltas, stopped = told(parts, stops)
    assert "".join(deltas) == cut(whole, stops)
    assert stopped == any(stop in whole for stop in stops)


@given(some.lists(some.text("ab", min_size=1, max_size=3).map(str.encode), min_size=1, max_size=12))
def test_no_more_is_held_back_than_has_to_be(parts: list[bytes]) -> None:
    """With "abb" to watch for: all but an ending "a" or "ab"."""
    written, sofar = text.Text(["abb"]), ""
    for part in parts:
        sofar += part.decode()
        written.add(part)
        if written.stopped:
            break
        assert written.held == next((ending for ending in ("ab", "a") if sofar.endswith(ending)), "")
