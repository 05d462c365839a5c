"""invoke() and stream(): check -> admit -> infer -> settle. Every door ends here."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.catalog.takedowns import require_standing
from marketplace.errors import InferenceFailed, MarketplaceError, ModelUnavailable, NotFound, ValidationProblem
from marketplace.metering.admission import MAX_ANSWER_BYTES, Admission, Hint, Moved, admit, release, settle
from marketplace.metering.heartbeats import beating
from marketplace.metering.models import Hold
from marketplace.subscriptions.models import TOKEN_COUNT, MeteredUnit

from . import dispatch
from .records import looked_up
from .shadows import Answered, mirror
from .signatures import signature_of
from .tensors import InferenceRequest, RawTensor, Tensor, digest, pack, packed_digest, read_request, unpack
from .versions import callable_version, endpoints_of, hinted_version

log = logging.getLogger(__name__)

MAX_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Invocation:
    """A delivered call. `outputs` is None for a replay whose answer is no longer kept. Units as charged, of the plan's
    `unit` (a MeteredUnit)."""

    id: UUID
    version: ModelVersion
    outputs: tuple[Tensor, ...] | None
    unit: str
    units: Decimal
    latency_ms: float | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """One of the answers of a model that streams. `id` and `version` are the Invocation's that comes at the end."""

    outputs: tuple[Tensor, ...]
    id: UUID
    version: ModelVersion


async def invoke(
    principal: Principal,
    *,
    ref: str,
    inputs: Sequence[RawTensor],
    version: int | None = None,
    outputs: Sequence[str] | None = None,
    parameters: object = None,
    idempotency_key: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  (the deadline that Triton is told)
    hinted: bool = False,
) -> Invocation:
    """Runs `publisher/name`, its live version unless one is named, and answers in one piece.

    `timeout` in seconds; settings.INFERENCE_TIMEOUT_SECONDS, or GENERATION_TIMEOUT_SECONDS for a decoupled model, is
    the most. Raises the MarketplaceErrors of admission, ValidationProblem (`path` names the field), NotFound,
    ModelUnavailable (DeadlineExceeded) and InferenceFailed; whatever is raised, nothing is charged.

    `hinted`: the principal and the version may be remembered ones, which admission confirms. Raises Moved when it does
    not, and for whatever would be refused before it: nobody is told anything that was not looked up.
    """
    wanted = _Wanted(ref, inputs, version, outputs, parameters, idempotency_key, timeout)
    call = await _admitted(principal, wanted, hinted=hinted, streamed=False)
    hold_id = call.admission.hold_id
    if call.admission.replayed:
        return await looked_up(_replay(hold_id))
    started = perf_counter()
    try:
        with beating(hold_id) as beat, beat.awaiting():
            answer = await dispatch.infer(call.errand)
        latency_ms = call.milliseconds_since(started)
        tokens = _tokens(answer) if call.counts_tokens else None
        answer = call.asked_for(answer)
    except MarketplaceError as error:
        await _give_back(hold_id, error.code)
        raise
    except BaseException as error:
        # The caller went away, or we failed: either way nothing is delivered.
        await asyncio.shield(_give_back(hold_id, _reason(error)))
        raise
    # From here on a caller who goes away changes nothing: the answer is theirs, and it is charged.
    units = await asyncio.shield(
        settle(
            hold_id,
            latency_ms=latency_ms,
            tokens=tokens,
            answer=pack(answer) if idempotency_key is not None else None,
            answer_digest=packed_digest(answer),
        )
    )
    done = call.delivered(answer, units, latency_ms)
    mirror(Answered(hold_id, done.version, call.request, answer, latency_ms))
    return done


async def stream(
    principal: Principal,
    *,
    ref: str,
    inputs: Sequence[RawTensor],
    version: int | None = None,
    outputs: Sequence[str] | None = None,
    parameters: object = None,
    idempotency_key: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  (the deadline that Triton is told)
    hinted: bool = False,
) -> AsyncGenerator[Chunk | Invocation]:
    """As `invoke`, with the model's answers as it yields them, and then the settled call, its `outputs` None.

    Whoever stops before the end (aclose, cancellation) stops the model, and is charged what they have taken: by token,
    the tokens of the chunks; by any other unit, the call if there was a chunk. When the model fails on the way, tokens
    are charged likewise, and nothing else. A chunk is taken when the next one is asked for.
    """
    wanted = _Wanted(ref, inputs, version, outputs, parameters, idempotency_key, timeout)
    call = await _admitted(principal, wanted, hinted=hinted, streamed=True)
    if call.admission.replayed:
        done = await looked_up(_replay(call.admission.hold_id))
        for outputs_of_one in _split(done.outputs or ()):
            yield Chunk(outputs_of_one, done.id, done.version)
        yield replace(done, outputs=None)
        return
    taken = _Taken(call.counts_tokens, keeps=idempotency_key is not None)
    started = perf_counter()

    async def end(*, charged: bool, because: str = "") -> Decimal | None:
        if not charged:
            await _give_back(call.admission.hold_id, because)
            return None
        return await settle(
            call.admission.hold_id,
            latency_ms=call.milliseconds_since(started),
            tokens=taken.tokens if call.counts_tokens else None,
            # What was cut short is no answer to give again.
            answer=None if because else taken.answer(),
            answer_digest=taken.digest(),
        )

    try:
        async with aclosing(dispatch.stream(call.errand)) as answers:
            with beating(call.admission.hold_id) as beat:
                while True:
                    with beat.awaiting():
                        answer = await anext(answers, None)
                    if answer is None:
                        break
                    chunk = call.asked_for(answer)
                    yield Chunk(chunk, call.admission.hold_id, call.errand.version)
                    taken.add(answer, chunk)
    except MarketplaceError as error:
        await asyncio.shield(end(charged=taken.tokens > 0, because=error.code))
        raise
    except BaseException as error:
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        charged = taken.tokens > 0 if call.counts_tokens else left and taken.chunks > 0
        await asyncio.shield(end(charged=charged, because=_reason(error)))
        raise
    units = await asyncio.shield(end(charged=True))
    yield call.delivered(None, units, call.milliseconds_since(started))


class _Taken:
    """What a stream's caller has taken so far."""

    def __init__(self, counts_tokens: bool, *, keeps: bool) -> None:
        self.chunks = 0
        self.tokens = 0
        self._counts_tokens = counts_tokens
        self._digest = hashlib.sha256()
        self._kept: list[Tensor] | None = [] if keeps else None
        self._kept_bytes = 0

    def add(self, answer: Sequence[Tensor], chunk: Sequence[Tensor]) -> None:
        self.chunks += 1
        if self._counts_tokens:
            self.tokens += _tokens(answer)
        self._digest.update(packed_digest(chunk))
        if self._kept is not None:
            self._kept += chunk
            self._kept_bytes += sum(len(tensor.content) for tensor in chunk)
            if self._kept_bytes > MAX_ANSWER_BYTES:
                self._kept = None

    def answer(self) -> bytes | None:
        return None if self._kept is None else pack(self._kept)

    def digest(self) -> bytes:
        """SHA-256 over the digests of the chunks, one after another."""
        return self._digest.digest()


def _split(outputs: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The chunks that were kept one after another: where a name comes again, the next one begins."""
    chunk: dict[str, Tensor] = {}
    for tensor in outputs:
        if tensor.name in chunk:
            yield tuple(chunk.values())
            chunk = {}
        chunk[tensor.name] = tensor
    if chunk:
        yield tuple(chunk.values())


@dataclass(frozen=True, slots=True)
class _Call:
    """An admitted call, and the errand that it is to Triton."""

    admission: Admission
    request: InferenceRequest
    errand: dispatch.Errand
    created_at: datetime

    @property
    def counts_tokens(self) -> bool:
        return self.admission.unit == MeteredUnit.TOKEN

    def milliseconds_since(self, started: float) -> float:
        """By `perf_counter`, without the time that it took to have the model loaded: that is not the caller's."""
        return (perf_counter() - started - sum(self.errand.waits)) * 1000

    def asked_for(self, answer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Without what only we asked for."""
        if self.errand.request.outputs == self.request.outputs:
            return answer
        return tuple(tensor for tensor in answer if tensor.name != TOKEN_COUNT)

    def delivered(self, outputs: tuple[Tensor, ...] | None, units: Decimal | None, latency_ms: float) -> Invocation:
        """Raises ModelUnavailable when the hold had expired, so that nothing was charged."""
        if units is None:
            raise ModelUnavailable(
                _("The answer came after the time set aside for it, so it is not delivered, nor charged. Try again."),
                retry_after_ms=1000,
            )
        version, unit = self.errand.version, self.admission.unit
        return Invocation(self.admission.hold_id, version, outputs, unit, units, latency_ms, self.created_at)


class _Wanted(NamedTuple):
    """As `invoke` has them."""

    ref: str
    inputs: Sequence[RawTensor]
    version: int | None
    outputs: Sequence[str] | None
    parameters: object
    idempotency_key: str | None
    timeout: float | None


async def _admitted(principal: Principal, wanted: _Wanted, *, hinted: bool, streamed: bool) -> _Call:
    ref, version, timeout = wanted.ref.replace("\0", "\N{REPLACEMENT CHARACTER}"), wanted.version, wanted.timeout
    try:
        principal.require(Permission.INVOKE)
        target = await found_version(principal, ref, version, hinted=hinted)
        _check_idempotency_key(wanted.idempotency_key)
        request = read_request(await signature_of(target.pk), wanted.inputs, wanted.outputs, wanted.parameters)
        endpoints = await endpoints_of(target.pk) if hinted else target.endpoints  # type: ignore[attr-defined]
    except MarketplaceError as error:
        if hinted and not isinstance(error, ModelUnavailable):
            raise Moved from error
        raise
    most: float = settings.GENERATION_TIMEOUT_SECONDS if target.decoupled else settings.INFERENCE_TIMEOUT_SECONDS
    seconds = most if timeout is None else min(timeout, most)
    admission = await admit(
        principal,
        version_id=target.pk,
        elements=request.elements,
        most_seconds=seconds,
        idempotency_key=wanted.idempotency_key,
        digest=digest(ref, version, request, streamed=streamed),
        hint=Hint(principal.role, ref, version) if hinted else None,
    )
    if admission.unit == MeteredUnit.SECOND:
        seconds = min(seconds, float(admission.units))
    asked = _asked(request, admission, decoupled=target.decoupled, streamed=streamed)
    errand = dispatch.Errand(target, endpoints, asked, seconds, str(admission.hold_id))
    return _Call(admission, request, errand, timezone.now())


def _asked(request: InferenceRequest, admission: Admission, *, decoupled: bool, streamed: bool) -> InferenceRequest:
    """The request with what only we ask for: the count of tokens, and no more of them than are set aside."""
    by_token = admission.unit == MeteredUnit.TOKEN
    if by_token and request.outputs is not None and TOKEN_COUNT not in request.outputs:
        request = replace(request, outputs=(*request.outputs, TOKEN_COUNT))
    if decoupled:
        bounds = {"max_total_tokens": int(admission.units)} if by_token else {}
        request = replace(request, parameters={**request.parameters, "stream": streamed, **bounds})
    return request


def _reason(error: BaseException) -> str:
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "INTERNAL"


def _tokens(answer: Sequence[Tensor]) -> int:
    count = next((tensor.total() for tensor in answer if tensor.name == TOKEN_COUNT), None)
    if count is None:
        raise InferenceFailed(
            _("This plan is by token, and the model does not say how many there were: its publisher has to mend that.")
        )
    return max(count, 0)


def _check_idempotency_key(key: str | None) -> None:
    if key is not None and not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and "\0" not in key):
        raise ValidationProblem(
            _("An idempotency key has 1 to %(most)d characters, none of them NUL.") % {"most": MAX_IDEMPOTENCY_KEY},
            path="input.idempotencyKey",
        )


async def found_version(principal: Principal, ref: str, number: int | None, *, hinted: bool) -> ModelVersion:
    """The version that answers, with `endpoints` (addresses that have it loaded) and its model and publisher."""
    target = await (hinted_version if hinted else callable_version)(principal, ref, number)
    if target is not None:
        return target
    if hinted:
        raise Moved
    model = await looked_up(MLModel.objects.by_ref(ref).visible_to(principal).select_related("publisher").afirst())
    if model is None:
        raise NotFound(_("There is no such model, or it is not yours to see."), path="input.model")
    require_standing(model)
    if number is None:
        raise ModelUnavailable(_("This model has no live version yet."), path="input.model")
    raise NotFound(
        _("This model has no version %(number)d that can be called.") % {"number": number}, path="input.version"
    )


async def _give_back(hold_id: UUID, because: str) -> None:
    try:
        await release(hold_id, because=because)
    except MarketplaceError as error:
        # The hold expires by itself; the caller is to hear of their own problem, not of this one.
        log.warning("hold %s is left to expire: %s", hold_id, error)


async def _replay(hold_id: UUID) -> Invocation:
    hold = await Hold.objects.select_related("version__model__publisher", "stored_answer").aget(pk=hold_id)
    kept = getattr(hold, "stored_answer", None)
    outputs = tuple(unpack(bytes(kept.content))) if kept and kept.expires_at > timezone.now() else None
    return Invocation(hold.pk, hold.version, outputs, hold.unit, hold.charged, hold.latency_ms, hold.created_at)
