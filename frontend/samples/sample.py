"""A piece of code that calls a model and runs when pasted, and how values are written in it."""

import json
from pprint import pformat
from typing import Any, NamedTuple

from django.utils.functional import Promise

WIDTH = 76
# What a model is asked to write, at most.
MAX_TOKENS = 48
# What the code is to be told by its environment, so that nobody pastes a key into a file.
KEY = "MARKETPLACE_API_KEY"


class Sample(NamedTuple):
    """`slug` is unique on the page."""

    slug: str
    title: str | Promise
    code: str


class Place(NamedTuple):
    """Where the doors are: `url` of the site, without a slash at its end; `grpc` as host:port, `tls` or not."""

    url: str
    grpc: str
    tls: bool

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def https(self) -> bool:
        return self.url.startswith("https://")


class Example(NamedTuple):
    """A call of `ref`: `inputs` as InvokeModelInput has them, each with data."""

    ref: str
    inputs: list[dict[str, Any]]
    embeds: bool
    writes: bool
    chats: bool

    @property
    def prompt(self) -> str:
        """Of a model that writes."""
        return str(self.inputs[0]["data"][0])


def for_shell(text: str) -> str:
    """JSON between single quotes: a shell leaves all alone there but a single quote."""
    return text.replace("'", "\\u0027")


def python(value: object) -> str:
    return pformat(value, compact=True, width=WIDTH, sort_dicts=False)


def wrapped(value: object) -> str:
    """JSON on lines of WIDTH, broken only after a comma between numbers or members, where white space means nothing."""
    lines, line = [], ""
    for token in json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).iterencode(value):
        # The pure-Python encoder is used by iterencode: a separator comes with the element that follows it.
        if line and len(line) + len(token) >= WIDTH and token.startswith(", "):
            lines.append(line + ",")
            line = token[2:]
        else:
            line += token
    return "\n".join([*lines, line])
