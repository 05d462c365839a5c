"""The form of a model that writes text: what a person sets, and the call made of it."""

import json
from typing import Any

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from .tasks import PROMPT

# Name, what people read, attributes of its field. Empty means what the model has for it.
SAMPLING: tuple[tuple[str, Promise, dict[str, str]], ...] = (
    ("max_tokens", _("Most tokens"), {"min": "1", "max": "100000", "step": "1", "value": "128"}),
    ("temperature", _("Temperature"), {"min": "0", "max": "2", "step": "0.05"}),
    ("top_p", _("Top p"), {"min": "0", "max": "1", "step": "0.05"}),
    ("seed", _("Seed"), {"step": "1"}),
)


def fields(version: dict[str, Any], typed: QueryDict) -> dict[str, Any]:
    """For the form: with what was typed, or what there is to begin with."""
    (tensor,) = version["inputs"]
    return {
        "prompt": typed.get("prompt") or (tensor["example"] or [""])[0],
        "sampling": [
            (name, label, attributes | ({"value": typed[name]} if name in typed else {}))
            for name, label, attributes in SAMPLING
        ],
    }


def asked(posted: QueryDict) -> dict[str, Any]:
    """The input of `invokeModel`. generator.js makes the same of the same form."""
    prompt, parameters = posted.get("prompt", ""), {}
    for name, _label, _attributes in SAMPLING:
        if text := posted.get(name, "").strip():
            parameters[name] = _number(text)
    if stop := posted.get("stop", ""):
        parameters["stop"] = json.dumps([stop])
    if posted.get("chat"):
        parameters["apply_chat_template"] = True
        prompt = json.dumps([{"role": "user", "content": prompt}], ensure_ascii=False)
    version = posted.get("version", "")
    return {
        "model": posted.get("model", ""),
        "version": int(version) if version.isdecimal() and len(version) < 10 else None,
        "inputs": [{"name": PROMPT, "datatype": "BYTES", "shape": [1], "data": [prompt]}],
        "parameters": parameters,
    }


def _number(text: str) -> int | float | str:
    """What is none is left for the model to refuse, in its own words."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
