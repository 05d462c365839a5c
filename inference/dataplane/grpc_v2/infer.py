"""ModelInfer: one request, one answer."""

from django.utils.translation import gettext as _

from inference.callers import as_caller, place_of
from inference.invocation import invoke
from inference.oip import ModelInferRequest
from marketplace.access import ANONYMOUS, Permission, Principal
from marketplace.errors import IdempotencyConflict

from .conversation import Caller, Context, read
from .messages import answer_of, call_of, parsed


async def model_infer(context: Context, caller: Caller) -> bytes:
    secret = secret_of(caller)
    with place_of(secret):
        # Nothing of a stranger's is read, however large it is.
        await as_caller(secret, _welcomed)
        message = parsed(ModelInferRequest, await read(context))
        call = call_of(message)
        call["timeout"] = sooner(call["timeout"], context.time_remaining())
        call["idempotency_key"] = caller.idempotency_key
        done = await as_caller(secret, lambda principal, hinted: invoke(principal, **call, hinted=hinted))
    if done.outputs is None:
        raise forgotten()
    return bytes(answer_of(message, done.version.number, done.outputs).SerializeToString())


async def _welcomed(_principal: Principal, _hinted: bool) -> None:
    """Whether it still is who it was a minute ago, admission will say."""


def secret_of(caller: Caller) -> str:
    """Raises Unauthenticated for nobody."""
    if caller.secret is None:
        ANONYMOUS.require(Permission.INVOKE)
        raise AssertionError("nobody may invoke")
    return caller.secret


def sooner(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def forgotten() -> IdempotencyConflict:
    return IdempotencyConflict(
        _("This call was made before under its idempotency key, and its answer is no longer kept.")
    )
