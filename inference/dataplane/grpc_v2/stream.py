"""ModelStreamInfer: requests and answers on one stream, each request answered or refused by itself.

A model that is not decoupled answers once, and those answers come in the order of their requests; a decoupled one
answers as often and as soon as it likes. What a client does not read holds its models up, and no more than
MOST_UNDER_WAY requests are taken from it meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from django.utils.translation import gettext as _

from inference.callers import place_of, principal_by_secret, stream_by_key
from inference.dataplane.classification import with_classes
from inference.dataplane.memory import room_for
from inference.invocation import Chunk
from inference.oip import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from marketplace.draining import ending, restarting
from marketplace.errors import MarketplaceError

from .conversation import Caller, Context, caller_of, refuse, refuse_unexplained, unexplained
from .infer import asked, forgotten, secret_of, tell_of_sunset, unknown_as_triton_says_it
from .messages import FINAL, FINAL_ASKED, answer_of, parsed
from .statuses import message_of

log = logging.getLogger(__name__)

MOST_UNDER_WAY = 32
# A client that takes nothing for so long is given up, and what it asked for is stopped.
STALLED_SECONDS = 60.0


async def model_stream_infer(_requests: AsyncIterator[bytes], context: Context) -> None:
    try:
        caller = caller_of(context)
        secret = secret_of(caller)
        with place_of(secret):
            await principal_by_secret(secret)
            try:
                await _Stream(context, caller, secret).run()
            except ExceptionGroup as failures:
                # Told while the place is still taken: whoever takes nothing does not take this either.
                await _end(context, failures.exceptions[0])
    except MarketplaceError as error:
        await refuse(context, error)


async def _end(context: Context, failure: Exception) -> None:
    if isinstance(failure, MarketplaceError):
        await refuse(context, failure)
    if isinstance(failure, _StalledError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _("Answers were sent, and not taken."))
    log.error("a stream failed", exc_info=failure)
    await refuse_unexplained(context)


class _StalledError(Exception):
    """The client takes nothing."""


class _Turn:
    """A request's place in the order of answers. Decoupled models pass theirs on."""

    def __init__(self, before: "_Turn | None") -> None:
        self._before = before
        self._over = asyncio.Event()
        self._forget_those_over()

    async def comes(self) -> None:
        while self._before is not None:
            await self._before._over.wait()
            self._forget_those_over()

    def over(self) -> None:
        self._over.set()
        self._forget_those_over()

    def _forget_those_over(self) -> None:
        while self._before is not None and self._before._over.is_set():
            self._before = self._before._before


class _Stream:
    def __init__(self, context: Context, caller: Caller, secret: str) -> None:
        self._context = context
        self._caller = caller
        self._secret = secret
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Until the client has said its last and is answered. Raises ModelUnavailable when the server is to end: then
        no more requests are taken, and those that were are answered."""
        places = asyncio.Semaphore(MOST_UNDER_WAY)
        turn: _Turn | None = None
        ended = asyncio.ensure_future(ending().wait())
        try:
            async with asyncio.TaskGroup() as answering:
                while True:
                    await places.acquire()
                    content = await self._next(ended)
                    if content is None:
                        break
                    turn = _Turn(turn)
                    task = answering.create_task(self._answer(content, turn))
                    task.add_done_callback(lambda _task: places.release())
        finally:
            ended.cancel()
        if ending().is_set():
            raise restarting()

    async def _next(self, ended: "asyncio.Future[Any]") -> bytes | None:
        """None at the end of the requests, and when no more are to be taken."""
        reading = asyncio.ensure_future(self._context.read())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
        if ended.done():
            return None
        content = reading.result()
        return None if content is grpc.aio.EOF else content

    async def _answer(self, content: bytes, turn: _Turn) -> None:
        message = ModelInferRequest()
        try:
            message = parsed(ModelInferRequest, content)
            with room_for(len(content)):
                await self._infer(message, turn)
        except MarketplaceError as error:
            if self._caller.wants_statuses:
                raise
            await turn.comes()
            await self._refuse(message, message_of(error))
        except _StalledError:
            raise
        except Exception:
            log.exception("a request of a stream failed")
            await turn.comes()
            await self._refuse(message, unexplained())
        finally:
            turn.over()

    async def _infer(self, message: ModelInferRequest, turn: _Turn) -> None:
        call, classes = await asked(message, self._context, self._caller)
        once: Chunk | None = None
        with unknown_as_triton_says_it(call):
            async with aclosing(stream_by_key(self._secret, **call)) as events:
                async for event in events:
                    if not isinstance(event, Chunk):
                        done = event
                    elif event.version.decoupled:
                        turn.over()
                        await self._write(await _answer(message, event, classes, final=False))
                    else:
                        # It leaves the building once it is charged.
                        once = event
        tell_of_sunset(self._context, done.version)
        if done.version.decoupled:
            if message.parameters[FINAL_ASKED].bool_param:
                await self._write(_flagged(ModelInferResponse(model_name=message.model_name, id=message.id), True))
            return
        if once is None:
            raise forgotten()
        await turn.comes()
        await self._write(await _answer(message, once, classes, final=True))

    async def _refuse(self, message: ModelInferRequest, reason: str) -> None:
        await self._write(
            ModelStreamInferResponse(error_message=reason, infer_response=ModelInferResponse(id=message.id))
        )

    async def _write(self, response: ModelStreamInferResponse) -> None:
        # gRPC takes one message at a time, and the next one when the client has room for it.
        async with self._writing:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await self._context.write(response.SerializeToString())
            except TimeoutError as error:
                raise _StalledError from error


async def _answer(
    message: ModelInferRequest, chunk: Chunk, classes: Mapping[str, int], *, final: bool
) -> ModelStreamInferResponse:
    outputs = await with_classes(chunk.outputs, classes, chunk.version)
    return _flagged(answer_of(message, chunk.version.number, outputs), final)


def _flagged(answer: ModelInferResponse, final: bool) -> ModelStreamInferResponse:
    answer.parameters[FINAL].bool_param = final
    return ModelStreamInferResponse(infer_response=answer)
