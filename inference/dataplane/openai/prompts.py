"""What the two ways of asking for text have in the body: the prompt, and parameters as the model takes them."""

import json
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from .errors import Refused
from .fields import Fields, wrong_type, wrong_value
from .serving import Asked, asked

MAX_MESSAGES = 2048
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 128
MAX_TOKENS = 2**31 - 1
# OpenAI's own, where a completion does not say.
COMPLETION_TOKENS = 16

# OpenAI's newer name for the same.
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

_NONE: tuple[Any, ...] = ([], {})
KNOWN = frozenset({"model", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options"})
# What the models here do not have, and the values by which a caller does not ask for it either.
_IDLE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": _NONE,
}
_CHAT_IDLE = {
    **_IDLE,
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": _NONE,
    "tool_choice": ("none", "auto"),
    "functions": _NONE,
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_COMPLETION_IDLE = {**_IDLE, "logprobs": (), "best_of": (1,), "echo": (False,), "suffix": ("",)}


class Prompt(NamedTuple):
    """`text` as the model takes it, which is under `subject` in the body; `parameters` of the request to the model."""

    model: Asked
    subject: str
    text: str
    parameters: dict[str, Any]
    streamed: bool
    with_usage: bool


def chat_prompt(fields: Fields) -> Prompt:
    fields.check(KNOWN | {"messages", "max_completion_tokens"}, _CHAT_IDLE)
    text = json.dumps(_messages(fields.required("messages")), ensure_ascii=False)
    most, newer = _tokens(fields, "max_tokens"), _tokens(fields, "max_completion_tokens")
    if most is not None and newer is not None and most != newer:
        raise wrong_value("max_tokens", _("'max_tokens' and 'max_completion_tokens' are the same; give one of them."))
    return _prompt(fields, "messages", text, newer or most, {"apply_chat_template": True})


def completion_prompt(fields: Fields) -> Prompt:
    fields.check(KNOWN | {"prompt"}, _COMPLETION_IDLE)
    prompt = fields.required("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise wrong_type("prompt", _("one string: this model takes one prompt at a time, as text"))
    return _prompt(fields, "prompt", prompt, _tokens(fields, "max_tokens") or COMPLETION_TOKENS, {})


def _prompt(fields: Fields, subject: str, text: str, max_tokens: int | None, parameters: dict[str, Any]) -> Prompt:
    streamed = fields.flag("stream")
    stops = _stops(fields.get("stop"))
    found = {
        **parameters,
        "max_tokens": max_tokens,
        "temperature": fields.number("temperature", least=0, most=2),
        "top_p": fields.number("top_p", least=0, most=1),
        "seed": fields.integer("seed", least=-(2**63), most=2**63 - 1),
        "stop": json.dumps(stops, ensure_ascii=False) if stops else None,
    }
    return Prompt(
        asked(fields.text("model")),
        subject,
        text,
        {name: value for name, value in found.items() if value is not None},
        streamed,
        _with_usage(fields.get("stream_options"), streamed),
    )


def _tokens(fields: Fields, name: str) -> int | None:
    return fields.integer(name, least=1, most=MAX_TOKENS)


def _stops(value: object) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise wrong_type("stop", _("a string, or a list of strings"))
    if len(stops) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_CHARACTERS for stop in stops):
        message = _("'stop' has at most %(most)d strings of 1 to %(long)d characters.")
        raise wrong_value("stop", message % {"most": MAX_STOPS, "long": MAX_STOP_CHARACTERS})
    return stops


def _with_usage(options: object, streamed: bool) -> bool:
    if options is None:
        return False
    if not streamed:
        raise wrong_value("stream_options", _("'stream_options' goes with 'stream': true."))
    # Padding that hides the lengths of tokens is nothing of the answer.
    if not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise wrong_type("stream_options", _("an object with 'include_usage'"))
    wanted = options.get("include_usage")
    if not isinstance(wanted, bool | None):
        raise wrong_type("stream_options.include_usage", _("true or false"))
    return bool(wanted)


def _messages(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list):
        raise wrong_type("messages", _("a list of messages"))
    if not 0 < len(value) <= MAX_MESSAGES:
        raise wrong_value("messages", _("'messages' has 1 to %(most)d elements.") % {"most": MAX_MESSAGES})
    return [_message(message, f"messages.{index}") for index, message in enumerate(value)]


def _message(message: object, path: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise wrong_type(path, _("an object with 'role' and 'content'"))
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong_value(f"{path}.role", _("A message's role is one of %(roles)s.") % {"roles": ", ".join(ROLES)})
    for name, value in message.items():
        # A name tells people apart, which the models here do not.
        if name not in ("role", "content", "name", "refusal") and value not in (None, [], {}):
            raise Refused(
                _("This model does not have '%(name)s' in a message. Leave it out.") % {"name": name[:64]},
                path=f"{path}.{name}",
                code="unsupported_parameter",
            )
    return {"role": ROLES[role], "content": _content(message.get("content"), f"{path}.content")}


def _content(value: object, path: str) -> str:
    if isinstance(value, list):
        return "".join(_part(part, f"{path}.{index}") for index, part in enumerate(value))
    if not isinstance(value, str):
        raise wrong_type(path, _("a string, or a list of parts of type 'text'"))
    return value


def _part(part: object, path: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise wrong_type(path, _("an object of type 'text' with 'text': the models here read nothing else"))
    text: str = part["text"]
    return text
