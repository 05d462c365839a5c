"""Receipts: what was delivered and charged, signed by us, for a customer to show to anybody (docs/receipts.md)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _

from .models import Account, Hold, HoldState, LedgerEntry, LedgerKind
from .signing import NotAuthentic, authentic, sign

# What a receipt reads of a hold and its neighbours, beside `charge()`.
RELATED = ("tenant", "version__model__publisher")
FIELDS = (
    *("state", "unit", "charged", "request_digest", "answer_digest", "created_at", "finished_at"),
    *("tenant__slug", "version__number", "version__sha256", "version__model__name", "version__model__publisher__slug"),
)


def charge() -> "dict[str, Subquery[Any]]":
    """Annotations for Holds: `amount` and `currency` that the consumer was charged; null before it is settled."""
    consumer: QuerySet[LedgerEntry] = LedgerEntry.objects.filter(
        hold=OuterRef("pk"), kind=LedgerKind.CHARGE, account=Account.CONSUMER
    )
    return {
        "amount": Subquery(consumer.values(charged=-F("amount"))),
        "currency": Subquery(consumer.values("currency")),
    }


def with_charge() -> "QuerySet[Hold]":
    """Holds with all that `receipt` reads."""
    return Hold.objects.select_related(*RELATED).annotate(**charge())


def receipt(hold: Any) -> str | None:
    """The receipt of a Hold with `charge()`, as a compact JWS; None until it is settled."""
    claims = _statement(hold)
    return None if claims is None else sign(claims)


def complaints(jws: str) -> Iterator[str]:
    """What speaks against a receipt: the signature, or what our ledger says otherwise. Nothing when it is good."""
    try:
        claims = authentic(jws.strip())
    except NotAuthentic as problem:
        yield str(problem)
        return
    hold = with_charge().filter(pk=UUID(claims["jti"])).first()
    ours = None if hold is None else _statement(hold)
    if ours is None:
        yield _("The ledger knows no settled invocation %(id)s.") % {"id": claims["jti"]}
        return
    for name in sorted(claims.keys() | ours.keys()):
        if claims.get(name) != ours.get(name):
            yield (
                _("%(name)s: the receipt says %(said)s, the ledger %(ours)s.")
                % {"name": name, "said": claims.get(name), "ours": ours.get(name)}
            )


def _statement(hold: Any) -> dict[str, Any] | None:
    """The claims of a receipt: decimals and times as text, for JSON's numbers are not exact everywhere."""
    if hold.state != HoldState.SETTLED or hold.amount is None:
        return None
    version = hold.version
    return {
        "iss": settings.PUBLIC_URL,
        "jti": str(hold.pk),
        "sub": hold.tenant.slug,
        "model": version.model.ref,
        "version": version.number,
        "artifact_sha256": version.sha256,
        "request_sha256": _hex(hold.request_digest),
        "answer_sha256": _hex(hold.answer_digest),
        "unit": hold.unit,
        "units": _plain(hold.charged),
        "amount": _plain(hold.amount),
        "currency": hold.currency,
        "created_at": _utc(hold.created_at),
        "finished_at": _utc(hold.finished_at),
    }


def _hex(digest: bytes | memoryview | None) -> str | None:
    return None if digest is None else bytes(digest).hex()


def _plain(number: Decimal) -> str:
    """Without trailing zeros, exponents and a sign of zero."""
    return f"{number.normalize() + 0:f}"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
