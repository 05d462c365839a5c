"""One request on a stream of its own, which may be left at any time without breaking the stream.

Triton 2.51 crashes now and then when a stream is cancelled, or its deadline passes, while an answer is on its way. So
none is: whoever leaves has the model told to stop, by a second request on the stream, and what still comes is read and
dropped until the stream ends by itself. Only one that does not end for LEAVING_SECONDS is cancelled after all.
"""

import asyncio
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import grpc
import grpc.aio

# What a model that generates takes for the id of the request that it is to stop (inference/backends/generator).
STOP = "stop_request"
LEAVING_SECONDS = 10.0

_reading: "WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[None]]]" = WeakKeyDictionary()


class Generation:
    """`call` is a stream of Triton's, `request` what to ask there, `stop` what to ask to have it stopped, if it can be.

    At most one answer waits here; the next one is read once that has been taken.
    """

    def __init__(self, call: Any, request: Any, stop: Any | None) -> None:
        self._call = call
        self._request = request
        self._stop = stop
        self._answers: asyncio.Queue[Any] = asyncio.Queue(1)
        self._failure: grpc.aio.AioRpcError | None = None
        # Triton has said that nothing more follows. A stream that ends without was cut.
        self.complete = False
        self._left = False
        # gRPC breaks a call on which two write at a time.
        self._writing = asyncio.Lock()
        self._task = self._start(self._read())

    async def next(self) -> Any | None:
        """A ModelStreamInferResponse, or None at the end. Raises AioRpcError. Cancelling it cancels nothing else."""
        answer = await self._answers.get()
        if answer is None and self._failure is not None:
            raise self._failure
        return answer

    def leave(self) -> None:
        """Nothing more is asked for. Returns at once; the rest happens behind."""
        if self._left:
            return
        self._left = True
        while not self._answers.empty():
            self._answers.get_nowait()
        if not self._task.done():
            self._start(self._leave())

    async def _read(self) -> None:
        try:
            async with self._writing:
                await self._call.write(self._request)
            while (response := await self._call.read()) is not grpc.aio.EOF:
                answer = response.infer_response
                if answer.id in ("", self._request.id) and (
                    response.error_message or answer.parameters["triton_final_response"].bool_param
                ):
                    self.complete = True
                    async with self._writing:
                        await self._call.done_writing()
                if not self._left and (response.error_message or answer.outputs):
                    await self._answers.put(response)
        except grpc.aio.AioRpcError as error:
            self._failure = error
        except asyncio.InvalidStateError:
            # It ended while we wrote; what it ended with says why.
            with suppress(grpc.aio.AioRpcError):
                await self._call.read()
            self._failure = grpc.aio.AioRpcError(
                await self._call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await self._call.details()
            )
        finally:
            if not self._call.done():
                self._call.cancel()
            if not self._left:
                await self._answers.put(None)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVING_SECONDS):
                async with self._writing:
                    if not self.complete and self._stop is not None:
                        await self._call.write(self._stop)
                    await self._call.done_writing()
                await asyncio.wait({self._task})
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
            self._call.cancel()

    @staticmethod
    def _start(work: Any) -> "asyncio.Task[None]":
        tasks = _reading.setdefault(asyncio.get_running_loop(), set())
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task


async def ended() -> None:
    """Returns once no stream of this event loop is being read any more."""
    while tasks := _reading.get(asyncio.get_running_loop()):
        await asyncio.wait(tasks)
