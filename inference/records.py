"""The ORM on the way of a call: what is rarely needed, without keeping a connection while an answer is awaited."""

from collections.abc import Awaitable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

T = TypeVar("T")


@sync_to_async
def hand_back_connection() -> None:
    """The wait for an answer may be long: kept through it, a few slow models' callers would hold all there are."""
    if not connection.in_atomic_block:
        connection.close()


async def looked_up(answer: Awaitable[T]) -> T:
    """The answer of an ORM's query. Its connection goes back at once: ahead of Django, no request's end returns it."""
    try:
        return await answer
    finally:
        await hand_back_connection()
