"""The invocation path's own way to PostgreSQL."""

import pytest

from marketplace.errors import ModelUnavailable
from marketplace.metering.connections import fetched

from .proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_question_that_is_never_answered_is_given_up_and_nobody_else_is_the_worse_for_it(proxy: Proxy) -> None:
    assert await fetched("SELECT %s + 1", (1,)) == (2,)
    proxy.pause()

    with pytest.raises(ModelUnavailable):
        await fetched("SELECT %s + 1", (1,))

    proxy.resume()
    assert await fetched("SELECT %s + 1", (1,)) == (2,)
