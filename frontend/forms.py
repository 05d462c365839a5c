"""A form on a page: the mutation it runs, what it sends, and what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils.functional import Promise

from graphql_api.execution import Answer, execute

from .documents import document


@dataclass(frozen=True)
class Outcome:
    """What a form came to: the mutation's `payload`, or `problems` by the field of the input they name.

    What names no single field is under `form`. `answer` has the top-level errors, of which a page makes a page.
    """

    answer: Answer
    payload: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return bool(self.payload) and not self.problems


@dataclass(frozen=True)
class Form:
    """`actions/<name>.graphql`, run with an `input` that `reads` takes from what was posted.

    Afterwards the visitor is sent on with the message `done`, unless the answer can be shown only once (`done` None).
    """

    name: str
    reads: Callable[[QueryDict], dict[str, Any]]
    done: str | Promise | None = None

    async def submit(self, request: HttpRequest) -> Outcome:
        answer = await execute(request, document(f"actions/{self.name}.graphql"), {"input": self.reads(request.POST)})
        (payload,) = (answer.data or {"": None}).values()
        return Outcome(answer, payload or {}, _by_field(payload["errors"] if payload else ()))


def _by_field(errors: Any) -> dict[str, str]:
    """The first problem of each field: `input.name` is `name`; no path, or the whole input, is `form`."""
    problems: dict[str, str] = {}
    for error in errors:
        name = (error.get("path") or "").removeprefix("input").removeprefix(".").partition(".")[0]
        problems.setdefault(name or "form", error["message"])
    return problems


def fields(*names: str, **fixed: Any) -> Callable[[QueryDict], dict[str, Any]]:
    """Reads the posted fields of these names as they are."""

    def read(posted: QueryDict) -> dict[str, Any]:
        return {**{name: posted.get(name, "") for name in names}, **fixed}

    return read


Forms = Mapping[str, Form]
