"""Which models answer here, by their task and signature, and which version of a model a request means."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from django.utils.translation import gettext as _

from inference.invocation import found_version
from inference.signatures import signature_of
from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.access import Permission, Principal
from marketplace.catalog.models import ModelTask, ModelVersion
from marketplace.errors import MarketplaceError, ModelUnavailable
from marketplace.metering.admission import Moved
from marketplace.subscriptions.models import TOKEN_COUNT

from .errors import Refused

T = TypeVar("T")

_WITH_VERSION = re.compile(r"(.+)@([1-9][0-9]{0,8})", re.DOTALL)


class Asked(NamedTuple):
    """The field `model`: `publisher/name`, its live version, or `publisher/name@2`."""

    name: str
    ref: str
    number: int | None


def asked(model: str) -> Asked:
    # Neither NUL nor half of a surrogate pair is in any name, and PostgreSQL cannot be asked for them.
    ref = model.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    versioned = _WITH_VERSION.fullmatch(ref)
    return Asked(model, versioned[1], int(versioned[2])) if versioned else Asked(model, ref, None)


@dataclass(frozen=True, slots=True)
class Embedder:
    """Task TEXT_EMBEDDING, one input BYTES[-1] and one output FP32[-1, n].

    `counts_tokens`: an output `token_count` INT64[-1] has the tokens of each text, and with the request parameter
    `token_ids` each element is a JSON list of them instead of text.
    """

    input: str
    output: str
    dimensions: int
    counts_tokens: bool


def embedder(task: str, signature: Signature) -> Embedder | None:
    outputs = [spec for spec in signature.outputs if spec.datatype is Datatype.FP32 and len(spec.shape) == 2]
    if task != ModelTask.TEXT_EMBEDDING or len(signature.inputs) != 1 or len(outputs) != 1:
        return None
    (text,), (embedding,) = signature.inputs, outputs
    if text.datatype is not Datatype.BYTES or text.shape != (-1,) or embedding.shape[0] != -1:
        return None
    counted = TensorSpec(TOKEN_COUNT, Datatype.INT64, (-1,)) in signature.outputs
    return Embedder(text.name, embedding.name, embedding.shape[1], counted)


PROMPT = TensorSpec("text_input", Datatype.BYTES, (1,))
TEXT = TensorSpec("text_output", Datatype.BYTES, (1,))
TOKENS = TensorSpec(TOKEN_COUNT, Datatype.INT64, (1,))
PROMPT_TOKENS = TensorSpec("prompt_token_count", Datatype.INT64, (1,))
FINISH_REASON = TensorSpec("finish_reason", Datatype.BYTES, (1,))


def generator(task: str, signature: Signature) -> bool | None:
    """Task TEXT_GENERATION, and the tensors above: new text, and how many tokens came with it, in each answer."""
    outputs = {TEXT, TOKENS, PROMPT_TOKENS, FINISH_REASON}
    fits = task == ModelTask.TEXT_GENERATION and signature.inputs == (PROMPT,) and outputs <= set(signature.outputs)
    return fits or None


async def served(
    principal: Principal, model: Asked, form: Callable[[str, Signature], T | None], *, hinted: bool
) -> tuple[ModelVersion, T]:
    """The version, and its form. As `invoke` for what it raises; Refused for a model of another form."""
    try:
        principal.require(Permission.INVOKE)
        version = await found_version(principal, model.ref, model.number, hinted=hinted)
        fitting = form(version.model.task, await signature_of(version.pk))
        if fitting is None:
            raise Refused(
                _("%(model)s does not answer here: its task and its tensors are for another way of calling it.")
                % {"model": model.name[:200]},
                path="model",
                code="model_not_found",
                http_status=404,
            )
    except MarketplaceError as error:
        if hinted and not isinstance(error, ModelUnavailable):
            raise Moved from error
        raise
    return version, fitting
