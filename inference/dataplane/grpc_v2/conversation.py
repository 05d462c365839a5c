"""What every method does around its work: who asks, the message read, failures told as statuses."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, NoReturn

import grpc
import grpc.aio
from django.utils.translation import gettext as _

from marketplace import trace
from marketplace.edge import bearer
from marketplace.errors import DeadlineExceeded, MarketplaceError, ValidationProblem

from .statuses import code_of, details_of, message_of

log = logging.getLogger(__name__)

# Who says that they have something to ask, and then does not say what, is not waited for any longer.
READ_SECONDS = 30.0

Context = Any  # grpc.aio.ServicerContext, which has types for none of what it gives


class Caller(NamedTuple):
    """What a call's metadata says. `secret` is an API key, None for whoever sent none."""

    secret: str | None
    idempotency_key: str | None
    wants_statuses: bool


def caller_of(context: Context) -> Caller:
    """Also notes what the call is traced by, and has it told back. Raises Unauthenticated for what is no bearer."""
    authorization = idempotency_key = request_id = traceparent = None
    wants_statuses = False
    for name, value in context.invocation_metadata():
        if name == "authorization":
            authorization = value
        elif name == "idempotency-key":
            idempotency_key = value
        elif name == "x-request-id":
            request_id = value
        elif name == "traceparent":
            traceparent = value
        elif name == "triton_grpc_error":
            wants_statuses = value == "true"
    traced = trace.begun(request_id, traceparent)
    trace.current.set(traced)
    context.set_trailing_metadata((("x-request-id", traced.request_id),))
    return Caller(bearer(authorization), idempotency_key, wants_statuses)


async def read(context: Context) -> bytes:
    """The one message of a call. Raises DeadlineExceeded when it does not come."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            message = await context.read()
    except TimeoutError as error:
        raise DeadlineExceeded(_("The call was opened, and its message did not come.")) from error
    if message is grpc.aio.EOF:
        raise ValidationProblem(_("This call takes one message, and none came."))
    return bytes(message)


def method(answer: Callable[[Context, Caller], Awaitable[bytes]]) -> grpc.RpcMethodHandler:
    """One message answered by one. Registered as if many could come: so who asks is known before any is read."""

    async def handle(_requests: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            return await answer(context, caller_of(context))
        except MarketplaceError as error:
            await refuse(context, error)
        except Exception:
            log.exception("a call failed")
            await refuse_unexplained(context)

    handler: grpc.RpcMethodHandler = grpc.stream_unary_rpc_method_handler(handle)
    return handler


async def refuse(context: Context, error: MarketplaceError) -> NoReturn:
    metadata = (*context.trailing_metadata(), *details_of(error))
    await context.abort(code_of(error), message_of(error), metadata)
    raise AssertionError("abort raises")


def unexplained() -> str:
    return _("The marketplace failed. It is logged under the x-request-id that comes with this answer.")


async def refuse_unexplained(context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.INTERNAL, unexplained())
    raise AssertionError("abort raises")
