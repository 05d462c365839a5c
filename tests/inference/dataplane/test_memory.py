"""Large bodies are read while there is room for them."""

import pytest

from inference.dataplane import memory
from inference.dataplane.memory import LARGE, MOST_BYTES, room_for
from marketplace.errors import ModelUnavailable


def test_what_does_not_fit_beside_the_others_is_refused_until_one_of_them_is_done() -> None:
    with room_for(MOST_BYTES - LARGE):
        with pytest.raises(ModelUnavailable) as refused, room_for(LARGE + 1):
            pass
        with room_for(LARGE):
            pass

    assert refused.value.retry_after_ms
    with room_for(MOST_BYTES):
        pass
    assert memory._held == 0


def test_room_is_given_back_whatever_happens() -> None:
    with pytest.raises(ZeroDivisionError), room_for(MOST_BYTES):
        raise ZeroDivisionError

    with room_for(MOST_BYTES):
        pass
