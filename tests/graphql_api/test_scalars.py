"""Scalars at their edges: what is read, what is written, what is refused by name."""

from decimal import Decimal
from typing import Any

import pytest

from marketplace.tenants.models import ApiKey
from tests import factories
from tests.graphql_api.conftest import Marketplace

EXPIRES = """
mutation ($at: DateTime) {
  createApiKey(input: {name: "x", expiresAt: $at}) { apiKey { expiresAt } errors { code } }
}"""

PRICE = """
mutation ($amount: Decimal!) {
  createPlan(input: {
    model: "openlab/digits", name: "P", price: {amount: $amount}, includedUnits: 1, requestsPerSecond: 1, burst: 1
  }) { plan { price { amount } } errors { code } }
}"""

INVOKE = """
mutation ($shape: [BigInt!]!) {
  invokeModel(input: {model: "openlab/digits", inputs: [{name: "A", datatype: FP32, shape: $shape}]}) {
    errors { code }
  }
}"""


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2999-01-31T12:00:00Z", "2999-01-31T12:00:00Z"),
        ("2999-01-31T12:00:00+02:00", "2999-01-31T10:00:00Z"),
        ("2999-01-31T12:00:00.25Z", "2999-01-31T12:00:00.250000Z"),
        ("2999-01-31T12:00:00", "2999-01-31T12:00:00Z"),
        ("2999-01-31", "2999-01-31T00:00:00Z"),
    ],
)
def test_a_datetime_is_utc_whatever_offset_it_came_with(marketplace: Marketplace, sent: str, kept: str) -> None:
    assert marketplace.owner.data(EXPIRES, at=sent)["createApiKey"]["apiKey"]["expiresAt"] == kept


@pytest.mark.parametrize(
    "sent", ["tomorrow", "", "2999-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59", 5, True, [], {}, "9" * 1000]
)
def test_a_datetime_that_is_none_is_refused(marketplace: Marketplace, sent: Any) -> None:
    before = ApiKey.objects.count()

    error = marketplace.owner.error(EXPIRES, at=sent)

    assert "ISO 8601" in error["message"]
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    ("amount", "written"), [("0", "0"), ("100", "100"), (5, "5"), ("1e2", "100"), ("0.000000001", "0.000000001")]
)
def test_a_decimal_is_written_in_full(marketplace: Marketplace, amount: Any, written: str) -> None:
    assert marketplace.publisher.data(PRICE, amount=amount)["createPlan"]["plan"]["price"]["amount"] == written


@pytest.mark.parametrize("amount", [1.5, "NaN", "Infinity", "1e999", "1e-999", "ten", "", True, [], "1" * 50])
def test_a_decimal_that_is_none_is_refused(marketplace: Marketplace, amount: Any) -> None:
    assert "Decimal" in marketplace.publisher.error(PRICE, amount=amount)["message"]


@pytest.mark.parametrize("size", [2**63, -(2**63) - 1, 10**400, 1.5, "1", True, None])
def test_a_bigint_has_64_bits(marketplace: Marketplace, size: Any) -> None:
    error = marketplace.owner.error(INVOKE, shape=[size])

    assert error["extensions"]["code"] == "BAD_REQUEST"


def test_a_bigint_past_32_bits_is_written_as_a_number(marketplace: Marketplace) -> None:
    version = factories.version(marketplace.model, status="READY", size_bytes=2**40)

    answer = marketplace.owner.data(
        '{ model(ref: "openlab/digits") { versions(first: 1) { edges { node { number sizeBytes } } } } }'
    )

    assert answer["model"]["versions"]["edges"][0]["node"] == {"number": version.number, "sizeBytes": 2**40}


def test_units_of_a_database_zero_are_written_as_zero(marketplace: Marketplace) -> None:
    marketplace.plan.overage_price = Decimal("0E-9")
    marketplace.plan.save()

    answer = marketplace.owner.data('{ model(ref: "openlab/digits") { plans { overagePrice { amount } } } }')

    assert answer["model"]["plans"] == [{"overagePrice": {"amount": "0"}}]
