"""What became of calls: what was charged for each, and what was given back."""

from typing import Any

import pytest
from django.db import connection

from marketplace.metering.models import Account, Hold, HoldState, LedgerEntry, LedgerKind
from tests import factories
from tests.graphql_api.caller import nodes
from tests.graphql_api.conftest import Marketplace

CALLS = "{ viewer { tenant { invocations { edges { node { status units receipt } } } } } }"


def calls(marketplace: Marketplace) -> list[dict[str, Any]]:
    return nodes(marketplace.owner.data(CALLS)["viewer"]["tenant"]["invocations"])


def test_a_refunded_call_has_failed_has_cost_nothing_and_has_no_receipt_any_more(marketplace: Marketplace) -> None:
    hold = marketplace.invocation
    for account, sign in ((Account.CONSUMER, -1), (Account.PUBLISHER, 1)):
        LedgerEntry.objects.create(
            hold=hold,
            kind=LedgerKind.CHARGE,
            account=account,
            tenant=marketplace.acme,
            units=sign,
            amount=0,
            currency="USD",
            created_at=hold.created_at,
        )
    (charged,) = calls(marketplace)

    with connection.cursor() as cursor:
        cursor.execute("SELECT metering_refund(ARRAY[%s], 'UNDELIVERED')", [hold.pk])

    assert (charged["status"], charged["units"]) == ("SUCCEEDED", "1")
    assert charged["receipt"] is not None
    assert calls(marketplace) == [{"status": "FAILED", "units": "0", "receipt": None}]


@pytest.mark.parametrize(
    ("because", "status"),
    [("CANCELLED", "CANCELLED"), ("EXPIRED", "FAILED"), ("INFERENCE_FAILED", "FAILED")],
)
def test_why_a_call_was_released_says_whether_it_was_cancelled_or_failed(
    marketplace: Marketplace, because: str, status: str
) -> None:
    Hold.objects.all().delete()
    factories.hold(marketplace.acme, marketplace.version, state=HoldState.RELEASED, released_because=because, charged=0)

    assert calls(marketplace) == [{"status": status, "units": "0", "receipt": None}]


@pytest.mark.parametrize("state", [HoldState.HELD, HoldState.EXECUTING])
def test_a_call_that_is_extended_still_runs(marketplace: Marketplace, state: str) -> None:
    Hold.objects.all().delete()
    factories.hold(marketplace.acme, marketplace.version, state=state, charged=0)

    assert calls(marketplace) == [{"status": "RUNNING", "units": "0", "receipt": None}]
