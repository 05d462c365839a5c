"""Buttons on the page of what they act on, each with a word on what it does.

Unfold's own, in the page's head, hide in a menu on a narrow screen, and no key opens it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import Promise

from .site import PanelAdmin, publisher_site


@dataclass(frozen=True, slots=True)
class Control:
    title: str
    url: str
    hint: Promise
    variant: str


class ControlledAdmin(PanelAdmin):
    """`hints`: the actions that have a button, and what is said beside it."""

    hints: ClassVar[Mapping[str, Promise]] = {}

    class Media:
        css = {"all": ("publish/publish.css",)}

    def offered(self, row: Any) -> Collection[str]:
        """The actions that the row as it is allows."""
        raise NotImplementedError

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        return []

    def controls_of(self, row: models.Model) -> list[Control]:
        offered = self.offered(row)
        return [self._control(name, row) for name in self.hints if name in offered]

    def _control(self, name: str, row: models.Model) -> Control:
        action = self.get_unfold_action(name)
        url = reverse(f"{publisher_site.name}:{action.action_name}", args=[row.pk])
        return Control(action.description, url, self.hints[name], action.variant.value)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context.get("original")
        if row is not None:
            context |= {"controls": self.controls_of(row)} | self.shown_of(row)
        return super().render_change_form(request, context, *args, **kwargs)

    def shown_of(self, row: Any) -> dict[str, Any]:
        """What else its page shows."""
        return {}
