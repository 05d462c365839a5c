"""POST /v1/chat/completions and /v1/completions: text, in one piece or as the model writes it."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from inference.callers import as_caller, invoke_by_key, stream_by_key
from inference.invocation import Chunk
from inference.tensors import RawTensor
from marketplace.catalog.models import ModelVersion

from .answers import Usage, outputs_of, piece
from .fields import Fields
from .prompts import Prompt, chat_prompt, completion_prompt
from .serving import FINISH_REASON, PROMPT, PROMPT_TOKENS, TEXT, TOKENS, generator, served

OUTPUTS = [spec.name for spec in (TEXT, TOKENS, PROMPT_TOKENS, FINISH_REASON)]
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How one of the two ways of asking is read, and how its answers are written."""

    read: Callable[[Fields], Prompt]
    prefix: str
    whole: str
    part: str
    message: Callable[[str], dict[str, Any]]
    delta: Callable[[str, bool], dict[str, Any]]


def _message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, "refusal": None}}


def _delta(text: str, first: bool) -> dict[str, Any]:
    role = {"role": "assistant"} if first else {}
    return {"delta": {**role, "content": text} if text or first else {}}


def _text(text: str, _first: bool = False) -> dict[str, Any]:
    return {"text": text}


CHAT = Form(chat_prompt, "chatcmpl", "chat.completion", "chat.completion.chunk", _message, _delta)
COMPLETION = Form(completion_prompt, "cmpl", "text_completion", "text_completion", _text, _text)


async def whole(form: Form, prompt: Prompt, secret: str, idempotency_key: str | None) -> tuple[ModelVersion, Event]:
    """The answer, and the version that it is of."""
    await as_caller(secret, lambda principal, hinted: served(principal, prompt.model, generator, hinted=hinted))
    done = await invoke_by_key(secret, **_call(prompt, idempotency_key))
    usage = Usage()
    answered = piece(outputs_of(done), usage)
    return done.version, {
        **_head(form.prefix, form.whole, done.id, prompt, done.version),
        "choices": [_choice(form.message(answered.text), answered.finish_reason or "stop")],
        "usage": usage.told(),
    }


async def streamed(
    form: Form, prompt: Prompt, secret: str, idempotency_key: str | None
) -> AsyncGenerator[tuple[ModelVersion, Event]]:
    """Objects as the events of a stream have them, and the version that they are of.

    What is raised before the first is the answer's own failure.
    """
    await as_caller(secret, lambda principal, hinted: served(principal, prompt.model, generator, hinted=hinted))
    usage = Usage()
    more = {"usage": None} if prompt.with_usage else {}
    head: Event = {}
    finish_reason = "stop"
    async with aclosing(stream_by_key(secret, **_call(prompt, idempotency_key))) as events:
        async for event in events:
            first = not head
            head = head or _head(form.prefix, form.part, event.id, prompt, event.version)
            if isinstance(event, Chunk):
                new = piece(event.outputs, usage)
                finish_reason = new.finish_reason or finish_reason
                if new.text or first:
                    yield event.version, {**head, "choices": [_choice(form.delta(new.text, first), None)], **more}
    # It is settled by now: what follows says so.
    yield event.version, {**head, "choices": [_choice(form.delta("", False), finish_reason)], **more}
    if prompt.with_usage:
        yield event.version, {**head, "choices": [], "usage": usage.told()}


def _call(prompt: Prompt, idempotency_key: str | None) -> dict[str, Any]:
    return {
        "ref": prompt.model.ref,
        "version": prompt.model.number,
        "inputs": [RawTensor(PROMPT.name, "BYTES", [1], [prompt.text])],
        "outputs": OUTPUTS,
        "parameters": prompt.parameters,
        "idempotency_key": idempotency_key,
    }


def _head(prefix: str, kind: str, invocation_id: UUID, prompt: Prompt, version: ModelVersion) -> Event:
    return {
        "id": f"{prefix}-{invocation_id}",
        "object": kind,
        "created": int(time.time()),
        "model": prompt.model.name,
        "system_fingerprint": f"{version.model.ref}@{version.number}",
    }


def _choice(content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
