"""GraphQL over Server-Sent Events, distinct connections mode (PROTOCOL.md of github.com/enisdenjo/graphql-sse).

A `next` for each result, then `complete`. What is refused before it is executed is a `next` as well.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from django.http import StreamingHttpResponse

from .execution import Answer, content, encoded

EVENT_STREAM = "text/event-stream"
CONTENT_TYPE = f"{EVENT_STREAM}; charset=utf-8"
# Proxies give up connections on which nothing moves, many after a minute.
KEEP_ALIVE_SECONDS = 15
KEEP_ALIVE = b":\n\n"
# With a line of data, though there is none: browsers tell nobody of an event without.
COMPLETE = b"event: complete\ndata:\n\n"


def next_event(answer: Answer) -> bytes:
    return b"event: next\ndata: %b\n\n" % encoded(content(answer))


async def events(answers: AsyncGenerator[Answer]) -> AsyncGenerator[bytes]:
    """The body. No answer is asked for before the one before it has been taken; closing it closes `answers`."""
    async with aclosing(answers):
        while True:
            upcoming = asyncio.ensure_future(anext(answers, None))
            try:
                while not (await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_SECONDS))[0]:
                    yield KEEP_ALIVE
            finally:
                if not upcoming.done():
                    upcoming.cancel()
                    await asyncio.wait({upcoming})
            answer = upcoming.result()
            if answer is None:
                break
            yield next_event(answer)
    yield COMPLETE


class EventStream(StreamingHttpResponse):
    """Its events end when it does: Django's own iterator would leave them to the garbage collector."""

    def __init__(self, answers: AsyncGenerator[Answer]) -> None:
        self._events = events(answers)
        super().__init__(self._events, content_type=CONTENT_TYPE)
        # nginx would collect a page of it first.
        self.headers["X-Accel-Buffering"] = "no"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events
