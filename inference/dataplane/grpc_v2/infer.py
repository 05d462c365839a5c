"""ModelInfer: one request, one answer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.utils.translation import gettext as _

from inference.callers import as_caller, place_of, principal_by_secret
from inference.dataplane import describe
from inference.dataplane.classification import check_classes, with_classes
from inference.dataplane.deprecation import metadata_of
from inference.dataplane.memory import room_for
from inference.invocation import invoke
from inference.oip import ModelInferRequest
from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.edge import no_key
from marketplace.errors import IdempotencyConflict, NotFound

from .conversation import Caller, Context, read
from .messages import Question, answer_of, parsed, question_of


async def model_infer(context: Context, caller: Caller) -> bytes:
    secret = secret_of(caller)
    with place_of(secret):
        # Nothing of a stranger's is read, however large it is.
        await as_caller(secret, _welcomed)
        content = await read(context)
        with room_for(len(content)):
            return await _answered(content, context, caller, secret)


async def _answered(content: bytes, context: Context, caller: Caller, secret: str) -> bytes:
    message = parsed(ModelInferRequest, content)
    call, classes = await asked(message, context, caller)
    with unknown_as_triton_says_it(call):
        done = await as_caller(secret, lambda principal, hinted: invoke(principal, **call, hinted=hinted))
    if done.outputs is None:
        raise forgotten()
    tell_of_sunset(context, done.version)
    outputs = await with_classes(done.outputs, classes, done.version)
    return bytes(answer_of(message, done.version.number, outputs).SerializeToString())


async def _welcomed(_principal: Principal, _hinted: bool) -> None:
    """Whether it still is who it was a minute ago, admission will say."""


def secret_of(caller: Caller) -> str:
    """Raises Unauthenticated for nobody."""
    if caller.secret is None:
        raise no_key()
    return caller.secret


async def asked(message: ModelInferRequest, context: Context, caller: Caller) -> Question:
    """As `question_of`, with what the metadata says, and before the sooner of the two deadlines."""
    question = question_of(message)
    call = question.call
    deadlines = [seconds for seconds in (call["timeout"], context.time_remaining()) if seconds is not None]
    call["timeout"] = min(deadlines, default=None)
    call["idempotency_key"] = caller.idempotency_key
    if question.classes:
        principal = await principal_by_secret(caller.secret)
        await check_classes(question.classes, principal, call["ref"], call["version"])
    return question


@contextmanager
def unknown_as_triton_says_it(call: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise describe.not_found(call["ref"], call["version"]) from error


def tell_of_sunset(context: Context, version: ModelVersion) -> None:
    """In the trailing metadata, once."""
    trailing = context.trailing_metadata()
    more = [each for each in metadata_of(version) if each not in trailing]
    if more:
        context.set_trailing_metadata((*trailing, *more))


def forgotten() -> IdempotencyConflict:
    return IdempotencyConflict(
        _("This call was answered and charged before, and its answer is kept no longer. Use a new key.")
    )
