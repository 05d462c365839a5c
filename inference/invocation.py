"""invoke(): check -> admit -> infer -> settle. Every door ends here."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from time import perf_counter
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.errors import InferenceFailed, MarketplaceError, ModelUnavailable, NotFound, ValidationProblem
from marketplace.metering.admission import Hint, Moved, admit, release, settle
from marketplace.metering.heartbeats import beating
from marketplace.metering.models import Hold
from marketplace.subscriptions.models import TOKEN_COUNT, MeteredUnit

from . import gateway
from .deployment import mark_broken
from .records import looked_up
from .scheduler import Scheduler
from .signatures import signature_of
from .tensors import InferenceRequest, RawTensor, Tensor, digest, pack, packed_digest, read_request, unpack
from .versions import callable_version, endpoints_of, forget_endpoints_of, hinted_version

log = logging.getLogger(__name__)

MAX_IDEMPOTENCY_KEY = 255

scheduler = Scheduler()


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


async def invoke(
    principal: Principal,
    *,
    ref: str,
    inputs: Sequence[RawTensor],
    version: int | None = None,
    outputs: Sequence[str] | None = None,
    parameters: object = None,
    idempotency_key: str | None = None,
    hinted: bool = False,
) -> Invocation:
    """Runs `publisher/name`, its live version unless one is named, within settings.INFERENCE_TIMEOUT_SECONDS.

    Raises the MarketplaceErrors of admission, ValidationProblem (`path` names the field), NotFound, ModelUnavailable
    and InferenceFailed; whatever is raised, nothing is charged.

    `hinted`: the principal and the version may be remembered ones, which admission confirms. Raises Moved when it does
    not, and for whatever would be refused before it: nobody is told anything that was not looked up.
    """
    ref = ref.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        principal.require(Permission.INVOKE)
        target = await _found(principal, ref, version, hinted)
        _check_idempotency_key(idempotency_key)
        request = read_request(await signature_of(target.pk), inputs, outputs, parameters)
        endpoints = await endpoints_of(target.pk) if hinted else target.endpoints  # type: ignore[attr-defined]
    except MarketplaceError as error:
        if hinted and not isinstance(error, ModelUnavailable):
            raise Moved from error
        raise
    seconds: float = settings.INFERENCE_TIMEOUT_SECONDS
    admission = await admit(
        principal,
        version_id=target.pk,
        elements=request.elements,
        most_seconds=seconds,
        idempotency_key=idempotency_key,
        digest=digest(ref, version, request),
        hint=Hint(principal.role, ref, version) if hinted else None,
    )
    if admission.replayed:
        return await looked_up(_replay(admission.hold_id))
    counts_tokens = admission.unit == MeteredUnit.TOKEN
    asked = request
    if admission.unit == MeteredUnit.SECOND:
        seconds = min(seconds, float(admission.units))
    elif counts_tokens and request.outputs is not None and TOKEN_COUNT not in request.outputs:
        asked = replace(request, outputs=(*request.outputs, TOKEN_COUNT))
    created_at = timezone.now()
    started = perf_counter()
    try:
        async with beating(admission.hold_id):
            answer = await _infer(target, endpoints, asked, seconds, request_id=str(admission.hold_id), hinted=hinted)
        latency_ms = (perf_counter() - started) * 1000
        tokens = _tokens(answer) if counts_tokens else None
        if asked is not request:
            answer = tuple(tensor for tensor in answer if tensor.name != TOKEN_COUNT)
    except MarketplaceError as error:
        await _give_back(admission.hold_id, error.code)
        raise
    except BaseException as error:
        # The caller went away, or we failed: either way nothing is delivered.
        because = "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
        await asyncio.shield(_give_back(admission.hold_id, because))
        raise
    # From here on a caller who goes away changes nothing: the answer is theirs, and it is charged.
    units = await asyncio.shield(
        settle(
            admission.hold_id,
            latency_ms=latency_ms,
            tokens=tokens,
            answer=pack(answer) if idempotency_key is not None else None,
            answer_digest=packed_digest(answer),
        )
    )
    if units is None:
        raise ModelUnavailable(
            _("The answer came after the time set aside for it, so it is neither delivered nor charged. Try again."),
            retry_after_ms=1000,
        )
    return Invocation(admission.hold_id, target, answer, admission.unit, units, latency_ms, created_at)


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


async def _found(principal: Principal, ref: str, number: int | None, hinted: bool) -> ModelVersion:
    """The version that answers, with `endpoints` (addresses that have it loaded) and its model and publisher."""
    target = await (hinted_version if hinted else callable_version)(principal, ref, number)
    if target is not None:
        return target
    if hinted:
        raise Moved
    if not await looked_up(MLModel.objects.by_ref(ref).visible_to(principal).aexists()):
        raise NotFound(_("There is no such model, or it is not yours to see."), path="input.model")
    if number is None:
        raise ModelUnavailable(_("This model has no live version yet."), path="input.model")
    raise NotFound(
        _("This model has no version %(number)d that can be called.") % {"number": number}, path="input.version"
    )


async def _infer(
    target: ModelVersion,
    endpoints: Sequence[str],
    request: InferenceRequest,
    seconds: float,
    *,
    request_id: str,
    hinted: bool,
) -> tuple[Tensor, ...]:
    """Asks the best endpoint, and the next one when it is not there, all within `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        return await _ask(target, endpoints, request, deadline, request_id)
    except ModelUnavailable:
        if not hinted:
            raise
        # None of those that were known a second ago: perhaps it is loaded elsewhere by now.
        forget_endpoints_of(target.pk)
        others = [endpoint for endpoint in await endpoints_of(target.pk) if endpoint not in endpoints]
        if not others:
            raise
    return await _ask(target, others, request, deadline, request_id)


async def _ask(
    target: ModelVersion, endpoints: Sequence[str], request: InferenceRequest, deadline: float, request_id: str
) -> tuple[Tensor, ...]:
    failure: ModelUnavailable | None = None
    known = [endpoint for endpoint in endpoints if endpoint in settings.TRITON_URLS]
    for endpoint in scheduler.ranked(known, target.triton_name):
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            break
        try:
            with scheduler.running(endpoint, target.triton_name):
                return await gateway.infer(
                    endpoint, target.triton_name, request, timeout=remaining, request_id=request_id
                )
        except gateway.ModelBroken as error:
            await looked_up(mark_broken(target.pk, endpoint, error.message))
            forget_endpoints_of(target.pk)
            failure = error
        except ModelUnavailable as error:
            failure = error
    raise failure or ModelUnavailable(
        _("No server has this version loaded just now; it is being loaded."), retry_after_ms=2000, path="input.model"
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
