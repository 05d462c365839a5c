"""The pages: what each asks for, and what its forms do."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import generation, tasks
from .forms import Form, fields
from .labels import ORDERS, TASKS
from .page import Page
from .samples import Place, doors

CARDS = 24
ROWS = 20
FACETS = {"task": _("Task"), "tag": _("Tag"), "license": _("Licence"), "publisher": _("Publisher")}
LIFETIMES = {"30": _("30 days"), "90": _("90 days"), "365": _("1 year"), "": _("Never")}
KEY_ROLES = {
    "DEVELOPER": _("Developer: invoke models, manage keys"),
    "VIEWER": _("Viewer: read only"),
    "BILLING": _("Billing: subscribe and cancel, limit spending"),
    "ADMIN": _("Administrator: everything"),
}


def window(query: QueryDict, size: int) -> dict[str, Any]:
    """The Relay arguments for a page of `size`: before a cursor, after one, or from the start."""
    if before := query.get("before"):
        return {"last": size, "before": before}
    return {"first": size, "after": query.get("after") or None}


def limit(*names: str) -> Callable[[QueryDict], dict[str, Any]]:
    """Reads an amount in a currency, and the fields of these names as they are."""

    def read(posted: QueryDict) -> dict[str, Any]:
        amount, currency = posted.get("amount", "").strip(), posted.get("currency", "").strip().upper()
        return {**fields(*names)(posted), "amount": amount, "currency": currency}

    return read


class Explore(Page):
    name = "explore"
    forms = {"act_for": Form("act_for", fields("tenant"), done=_("You now act for another organisation."))}

    def variables(self) -> dict[str, Any]:
        query = self.request.GET
        order = query.get("order", "")
        chosen = {
            "tasks": [task for task in query.getlist("task") if task in TASKS],
            "tags": query.getlist("tag"),
            "licenses": query.getlist("license"),
            "publisher": query.get("publisher"),
            "subscribed": True if query.get("subscribed") else None,
        }
        return {
            "search": query.get("q", "").strip() or None,
            "filter": {name: value for name, value in chosen.items() if value},
            "order": order if order in ORDERS else "RELEVANCE",
            **window(query, CARDS),
        }

    def context(self, data: dict[str, Any]) -> dict[str, Any]:
        query = self.request.GET
        chosen = {name: [value for value in query.getlist(name) if value] for name in FACETS}
        # Without a choice: the best match of a search, else what is used most.
        usual = "RELEVANCE" if query.get("q", "").strip() else "POPULARITY"
        orders = [
            ("", ORDERS[usual]),
            *((value, label) for value, label in ORDERS.items() if value not in (usual, "RELEVANCE")),
        ]
        facets = data["models"]["facets"]
        return {
            "search": query.get("q", ""),
            "order": query.get("order", ""),
            "orders": orders,
            "chosen": chosen,
            "subscribed": bool(query.get("subscribed")),
            "narrowed": any(chosen.values()) or bool(query.get("subscribed")),
            "facets": [(name, title, facets[f"{name}s"], chosen[name]) for name, title in FACETS.items()],
        }


class Model(Page):
    name = "model"
    subject = "model"
    forms = {
        "subscribe": Form("subscribe", fields("model", "plan"), done=_("Subscribed. The plan is active from now on.")),
        "ask": Form("subscribe", fields("model", "plan", "message"), done=_("Asked. The publisher decides.")),
        "withdraw": Form("withdraw_request", fields("modelSubscriptionRequest"), done=_("The request is withdrawn.")),
        "cancel": Form("cancel", fields("modelSubscription"), done=_("Cancelled. Calls are refused from now on.")),
        "generate": Form("generate", generation.asked),
    }

    def variables(self) -> dict[str, Any]:
        return {"ref": f"{self.kwargs['publisher']}/{self.kwargs['model']}"}

    def context(self, data: dict[str, Any]) -> dict[str, Any]:
        model, viewer = data["model"], data["viewer"]
        live = model["liveVersion"]
        versions = [edge["node"] for edge in model["versions"]["edges"]]
        playable = [version for version in versions if version["status"] in ("LIVE", "READY")]
        writes = bool(playable) and all(tasks.writes(model, version) for version in playable)
        return {
            "own": viewer is not None and viewer["tenant"]["slug"] == model["publisher"]["slug"],
            "playable": playable,
            "writes": writes,
            **(generation.fields(live or playable[0], self.request.POST) if writes else {}),
            "playground": {"model": model["ref"], "versions": playable},
            "doors": doors(self.place(), model),
        }

    def place(self) -> Place:
        """By the name that the visitor has called the site by."""
        host = self.request.get_host().removesuffix(f":{self.request.get_port()}")
        grpc = urlsplit(
            settings.PUBLIC_GRPC_URL
            or f"{'grpcs' if settings.GRPC_TLS_CERTIFICATE else 'grpc'}://{host}:{settings.GRPC_PORT}"
        )
        return Place(self.request.build_absolute_uri("/").rstrip("/"), grpc.netloc, tls=grpc.scheme == "grpcs")


class Publisher(Page):
    name = "publisher"
    subject = "publisher"

    def variables(self) -> dict[str, Any]:
        return {**self.kwargs, **window(self.request.GET, CARDS)}


class Usage(Page):
    name = "usage"
    members_only = True
    forms = {
        "cancel": Form("cancel", fields("modelSubscription"), done=_("Cancelled. Calls are refused from now on.")),
        "cap": Form("set_spending_cap", limit(), done=_("The spending cap is set. It holds from the next call on.")),
        "remove_cap": Form("remove_spending_cap", fields("currency"), done=_("The spending cap is removed.")),
    }

    def variables(self) -> dict[str, Any]:
        return window(self.request.GET, ROWS) | {"subscriptionsAfter": self.request.GET.get("subscriptions") or None}


class BecomePublisher(Page):
    name = "become_publisher"
    members_only = True
    forms = {"apply": Form("become_publisher", fields("about", "website"), done=_("Asked. The operator decides."))}


def new_key(posted: QueryDict) -> dict[str, Any]:
    days = posted.get("days", "")
    lifetime = timedelta(days=int(days)) if days in LIFETIMES and days else None
    return {
        "name": posted.get("name", ""),
        "role": role if (role := posted.get("role")) in KEY_ROLES else "DEVELOPER",
        "expiresAt": (timezone.now() + lifetime).isoformat() if lifetime else None,
    }


class Keys(Page):
    name = "keys"
    members_only = True
    forms = {
        # The secret is in this one answer and never again: no redirect can carry it.
        "create": Form("create_key", new_key),
        "revoke": Form("revoke_key", fields("apiKey"), done=_("Revoked. The key is refused from now on.")),
        "budget": Form(
            "set_key_budget", limit("apiKey"), done=_("The key's budget is set. It holds from the next call on.")
        ),
        "remove_budget": Form(
            "remove_key_budget", fields("apiKey", "currency"), done=_("The key's budget is removed.")
        ),
    }

    def variables(self) -> dict[str, Any]:
        return window(self.request.GET, ROWS)

    def context(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"lifetimes": LIFETIMES, "key_roles": KEY_ROLES}
