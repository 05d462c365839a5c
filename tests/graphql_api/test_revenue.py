"""A publisher's figures in GraphQL."""

import pytest

from tests.graphql_api.conftest import Marketplace

USAGE = """query ($from: Date!, $to: Date!) { model(ref: "openlab/digits") { usage(from: $from, to: $to) {
  days { day calls revenue { amount currency } }
  plans { plan { name } calls unit units revenue { amount } }
  tenants { tenantSlug tenantName calls }
  models { model { ref } calls }
  countedUntil
} } }"""


def test_a_publisher_reads_its_figures_by_day_plan_tenant_and_model(marketplace: Marketplace) -> None:
    answer = marketplace.publisher.ask(USAGE, **{"from": "2026-03-01", "to": "2026-03-02"})

    assert answer["data"]["model"]["usage"] == {
        "days": [
            {"day": "2026-03-01", "calls": 0, "revenue": []},
            {"day": "2026-03-02", "calls": 3, "revenue": [{"amount": "0.25", "currency": "USD"}]},
        ],
        "plans": [
            {"plan": {"name": "Scale"}, "calls": 3, "unit": "CALL", "units": "3", "revenue": [{"amount": "0.25"}]}
        ],
        "tenants": [{"tenantSlug": "acme", "tenantName": "Acme", "calls": 3}],
        "models": [{"model": {"ref": "openlab/digits"}, "calls": 3}],
        "countedUntil": None,
    }


@pytest.mark.parametrize(
    ("first", "last", "code"),
    [
        ("2026-03-02", "2026-03-01", "VALIDATION"),
        ("2025-01-01", "2026-03-01", "VALIDATION"),
        ("0001-01-01", "9999-12-31", "VALIDATION"),
        ("yesterday", "2026-03-01", "BAD_REQUEST"),
    ],
)
def test_days_that_make_no_span_are_refused(marketplace: Marketplace, first: str, last: str, code: str) -> None:
    answer = marketplace.publisher.ask(USAGE, **{"from": first, "to": last})

    assert answer["errors"][0]["extensions"]["code"] == code
