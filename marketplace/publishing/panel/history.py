"""What became of a model's versions: who did what, when, and which version was live from then on."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from marketplace.catalog.models import GONE_LIVE, MLModel, ReleaseEvent

MOST = 50


@dataclass(frozen=True, slots=True)
class Happening:
    """`version` and `live` are numbers; None for what befell the model, and while nothing was live yet."""

    at: datetime
    what: str
    version: int | None
    who: str
    live: int | None
    reason: str


def history_of(model: MLModel) -> list[Happening]:
    """The last `MOST` of them, newest first."""
    events = (
        ReleaseEvent.objects.filter(model=model).order_by("-at", "-id").select_related("version", "user", "api_key")
    )
    last = list(events[: MOST + 1])
    live = None
    if len(last) > MOST:
        before = events.filter(kind__in=GONE_LIVE, at__lte=last.pop().at).first()
        live = before.version.number if before and before.version else None
    told = []
    for event in reversed(last):
        if event.kind in GONE_LIVE and event.version:
            live = event.version.number
        told.append(
            Happening(
                at=event.at,
                what=_what(event),
                version=event.version.number if event.version else None,
                who=_who(event),
                live=live,
                reason=event.reason,
            )
        )
    return told[::-1]


def _what(event: ReleaseEvent) -> str:
    kind = event.get_kind_display()
    if event.percent is None:
        return kind
    if event.percent == 0:
        return _("%(kind)s ended") % {"kind": kind}
    return _("%(kind)s: %(percent)d %%") % {"kind": kind, "percent": event.percent}


def _who(event: ReleaseEvent) -> str:
    if event.user:
        return event.user.email
    return _("API key “%(name)s”") % {"name": event.api_key.name} if event.api_key else _("The marketplace itself")
