"""A request's JSON, read field by field: what would change the answer and cannot be done is refused by its name."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from django.utils.translation import gettext as _

from .errors import Refused

MAX_BODY_BYTES = 4 * 1024 * 1024

# They say who asks, where to keep what, or how to use tools that there are none of: no answer changes.
HARMLESS = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)


class Fields:
    """The object that a body holds. A field that is null is as one that is not there."""

    def __init__(self, body: bytes) -> None:
        try:
            values = json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Refused(_("The body is not JSON in UTF-8."), path=None) from error
        if not isinstance(values, dict):
            raise Refused(_("The body is a JSON object."), path=None)
        self._values = {name: value for name, value in values.items() if value is not None}

    def check(self, known: Collection[str], idle: Mapping[str, Collection[Any]]) -> None:
        """Refuses what is neither `known` nor harmless. `idle`: what may only have the value that changes nothing."""
        for name, value in self._values.items():
            if name in known or name in HARMLESS:
                continue
            if name not in idle:
                raise Refused(
                    _("Unknown parameter: %(name)s.") % {"name": _shown(name)}, path=name, code="unknown_parameter"
                )
            # 0 is as good as 0.0, but not as false.
            if not any(value == each and isinstance(value, bool) is isinstance(each, bool) for each in idle[name]):
                raise Refused(
                    _("This model does not have %(name)s. Leave it out.") % {"name": _shown(name)},
                    path=name,
                    code="unsupported_parameter",
                )

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def required(self, name: str) -> Any:
        if name not in self._values:
            raise Refused(
                _("Missing required parameter: %(name)s.") % {"name": _shown(name)},
                path=name,
                code="missing_required_parameter",
            )
        return self._values[name]

    def text(self, name: str) -> str:
        value = self.required(name)
        if not isinstance(value, str):
            raise wrong_type(name, _("a string"))
        return value

    def flag(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise wrong_type(name, _("true or false"))
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        value: object = self._values.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type(name, _("an integer"))
        _check_within(name, value, least, most)
        return value

    def number(self, name: str, *, least: float, most: float) -> float | None:
        value: object = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, _("a number"))
        _check_within(name, value, least, most)
        return float(value)


def wrong_type(path: str, expected: str) -> Refused:
    return Refused(
        _("Invalid type for %(name)s: expected %(expected)s.") % {"name": _shown(path), "expected": expected},
        path=path,
        code="invalid_type",
    )


def wrong_value(path: str, message: str) -> Refused:
    return Refused(message, path=path, code="invalid_value")


def _check_within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        message = _("%(name)s goes from %(least)s to %(most)s.")
        raise wrong_value(name, message % {"name": _shown(name), "least": least, "most": most})


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _shown(name: str) -> str:
    return f"'{name[:64]}'"
