"""What the failures of Triton mean to a caller, and in which words."""

import re

import grpc
import grpc.aio

from marketplace.errors import DeadlineExceeded, InferenceFailed, InputRefused, ModelUnavailable

MAX_ANSWER_BYTES = 256 * 1024 * 1024
RETRY_AFTER_MS = 1000
MAX_MESSAGE_CHARACTERS = 500


class ModelBroken(ModelUnavailable):
    """The server answers and does not run the model: unloading it and then loading it mends that.

    It may have been restarted, or the process behind the model has died, which Triton still calls ready.
    """


def words(error: grpc.aio.AioRpcError) -> str:
    return error.details() or ""


def failure(
    error: grpc.aio.AioRpcError, timeout: float, refusal: str = "The model failed"
) -> ModelUnavailable | InferenceFailed:
    """What an RPC's failure means to a caller. Triton's own codes; INTERNAL covers both models and connections."""
    code, details = error.code(), words(error)
    if code is grpc.StatusCode.NOT_FOUND:
        return _not_loaded()
    if STUB_DIED.search(details):
        return _stopped()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(timeout)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InferenceFailed(f"The model's answer is larger than {MAX_ANSWER_BYTES} bytes. Ask for less at a time.")
    if code in UNAVAILABLE or re.match(r"Received RST_STREAM|Stream removed", details):
        return away()
    kind = InputRefused if code is grpc.StatusCode.INVALID_ARGUMENT else InferenceFailed
    return kind(f"{refusal}: {readable(details)}")


def stream_failure(message: str) -> ModelUnavailable | InferenceFailed:
    """In a stream Triton says in words alone what failed. (Asked for statuses, `triton_grpc_error`, 2.51 crashes.)"""
    if "Request for unknown model" in message:
        return _not_loaded()
    if STUB_DIED.search(message):
        return _stopped()
    text = readable(message)
    if text.startswith(REFUSED):
        return InputRefused(f"The model refused: {text.removeprefix(REFUSED)}")
    if text.startswith(BUSY):
        return ModelUnavailable(
            f"The model cannot answer now: {text.removeprefix(BUSY)} Try again shortly.", retry_after_ms=RETRY_AFTER_MS
        )
    return InferenceFailed(f"The model failed: {text}")


def _not_loaded() -> ModelBroken:
    return ModelBroken("The model is not loaded yet. Try again in a moment.", retry_after_ms=RETRY_AFTER_MS)


def away() -> ModelUnavailable:
    return ModelUnavailable(
        "The model cannot be reached at the moment. Try again shortly.", retry_after_ms=RETRY_AFTER_MS
    )


def late(timeout: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The model did not answer within {timeout:.4g} seconds. Try again later, or with less input.",
        retry_after_ms=RETRY_AFTER_MS,
    )


def _stopped() -> ModelBroken:
    return ModelBroken("The model has stopped and is being restarted.", retry_after_ms=RETRY_AFTER_MS)


# grpc.aio's own word for a call of which it does not know how it ended.
INTERNAL_TO_GRPC = "Internal error from Core"
OUR_NAME = re.compile(r"'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-v[\w.-]*'")
STUB_DIED = re.compile(r"[Ss]tub process .*(not healthy|unhealthy)")
# How a model that streams says that it is the input that is wrong, or the moment (inference/backends/generator).
REFUSED = "Invalid argument: "
BUSY = "Unavailable: "

UNAVAILABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    }
)


def readable(details: str) -> str:
    """Triton's message without what is ours alone: request ids, tracebacks, names, folders, states of loading."""
    text = details.split("\n\nAt:\n", maxsplit=1)[0]
    text = re.sub(r"^\[request id: [^]]*\] ", "", text)
    text = re.sub(r"^load failed for model '[^']*': version \d+ is at UNAVAILABLE state: ", "", text)
    text = OUR_NAME.sub("this model", text)
    text = re.sub(r"(?<![\w.])/(?:[^\s/'\":;,]+/)+", "", text)
    text = " ".join(text.split()).rstrip(";")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return text or "it gave no reason."
