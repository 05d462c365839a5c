"""`infer`: a call, from its body to the answer's."""

import asyncio
from collections.abc import Sequence
from functools import partial

from django.utils.translation import gettext as _

from inference.callers import invoke_by_key, principal_by_secret
from inference.dataplane import describe
from inference.dataplane.classification import check_classes, with_classes
from inference.dataplane.deprecation import header_fields
from inference.dataplane.memory import LARGE, room_for
from inference.invocation import Invocation
from inference.tensors import Tensor
from marketplace.edge import no_key, unless_gone
from marketplace.errors import IdempotencyConflict, NotFound

from . import answers, errors, requests
from .answers import Answer
from .compression import ENCODINGS, MANY_BYTES, accepted, deflated, inflated
from .incoming import Incoming

# A tensor of the largest size still fits, and what describes it.
MAX_BODY_BYTES = 90 * 1024 * 1024


async def infer(incoming: Incoming, ref: str, number: int | None) -> Answer | None:
    secret = incoming.secret
    if secret is None:
        raise no_key()
    size = _declared(incoming)
    if size > LARGE:
        # Not read of somebody unknown.
        await principal_by_secret(secret)
    with room_for(size):
        content = await incoming.body(MAX_BODY_BYTES)
        encoding = (incoming.text(b"content-encoding") or "identity").strip().lower()
        if encoding == "identity":
            return await unless_gone(incoming.receive, _called(incoming, secret, ref, number, content))
        if encoding not in ENCODINGS:
            supported = (b"accept-encoding", ", ".join(ENCODINGS).encode())
            return 501, [errors.JSON, supported], errors.body("Unsupported compression type")
        content = await inflated(content, encoding, MAX_BODY_BYTES)
        with room_for(len(content)):
            return await unless_gone(incoming.receive, _called(incoming, secret, ref, number, content))


def _declared(incoming: Incoming) -> int:
    """The body's size, at most: a larger one is refused before it is read."""
    length = incoming.headers.get(b"content-length", b"")
    return min(int(length[:18]), MAX_BODY_BYTES) if length.isdigit() else MAX_BODY_BYTES


async def _called(incoming: Incoming, secret: str, ref: str, number: int | None, content: bytes) -> Answer:
    header_length = incoming.headers.get(b"inference-header-content-length")
    if header_length == b"0":
        signature = await describe.signature(await principal_by_secret(secret), ref, number)
        request = requests.raw(content, signature)
    else:
        request = requests.read(content, header_length)
    if request.classes:
        await check_classes(request.classes, await principal_by_secret(secret), ref, number)
    try:
        done = await invoke_by_key(
            secret,
            ref=ref,
            version=number,
            inputs=request.inputs,
            outputs=request.outputs,
            parameters=request.parameters,
            timeout=request.timeout,
            idempotency_key=incoming.text(b"idempotency-key"),
        )
    except NotFound as error:
        raise describe.not_found(ref, number) from error
    outputs = await _outputs(done, request)
    write = partial(
        answers.written,
        answers.head(request.id, ref, done.version.number),
        outputs,
        request.binary,
        binary_by_default=request.binary_by_default,
    )
    few = sum(len(tensor.content) for tensor in outputs) <= MANY_BYTES
    headers, answered = write() if few else await asyncio.to_thread(write)
    own = [*headers, (b"x-invocation-id", str(done.id).encode()), *header_fields(done.version)]
    encoding = incoming.text(b"accept-encoding")
    wanted = accepted(encoding) if encoding is not None else None
    if wanted is None:
        return 200, own, answered
    return 200, [*own, (b"content-encoding", wanted.encode())], await deflated(answered, wanted)


async def _outputs(done: Invocation, request: requests.Request) -> Sequence[Tensor]:
    if done.outputs is None:
        raise IdempotencyConflict(
            _("This call was answered and charged before, and its answer is kept no longer. Use a new key.")
        )
    return await with_classes(done.outputs, request.classes, done.version)
