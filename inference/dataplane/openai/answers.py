"""Out of what a model answered: the tensors of a call, the text and counts of a generation, and all of it as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from inference.invocation import Invocation
from inference.tensors import Tensor
from marketplace.errors import IdempotencyConflict

from .serving import FINISH_REASON, PROMPT_TOKENS, TEXT, TOKENS

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encoded(content: dict[str, Any]) -> bytes:
    # A name that the caller sent may have half of a surrogate pair.
    return _encode(content).encode("utf-8", "replace")


def outputs_of(done: Invocation) -> tuple[Tensor, ...]:
    """In the order asked for. Raises IdempotencyConflict for a call of long ago."""
    if done.outputs is None:
        raise IdempotencyConflict(
            _("This idempotency key's call was delivered before, and its answer is no longer kept. Use a new key.")
        )
    return done.outputs


@dataclass(slots=True)
class Usage:
    """Tokens so far, as the model counts them: `total` are the prompt's and the completion's."""

    prompt: int = 0
    total: int = 0

    def told(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": max(self.total - self.prompt, 0),
            "total_tokens": self.total,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """New text, and why there is no more ("" while there may be)."""

    text: str
    finish_reason: str


def piece(outputs: Sequence[Tensor], usage: Usage) -> Piece:
    """Of one answer of a generator, whose tokens are added to `usage`."""
    tensors = {tensor.name: tensor for tensor in outputs}
    usage.prompt = tensors[PROMPT_TOKENS.name].total() or 0
    usage.total += tensors[TOKENS.name].total() or 0
    return Piece(_text(tensors, TEXT.name), _text(tensors, FINISH_REASON.name))


def _text(tensors: Mapping[str, Tensor], name: str) -> str:
    """Of BYTES[1]: four bytes that tell the length, and UTF-8."""
    return tensors[name].content[4:].decode("utf-8", "replace")
