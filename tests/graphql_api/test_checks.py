"""How far the checks of a version are, as its publisher reads it."""

from tests import factories
from tests.graphql_api.conftest import Marketplace

CHECK = """
query ($ref: String!) {
  model(ref: $ref) {
    versions {
      edges { node { number check { steps { name status detail seconds } reason advice facts } } }
    }
  }
}
"""
STEP = {"name": "format", "status": "failed", "detail": "", "seconds": 0.25}
LEFT_OUT = {"name": "parse", "status": "skipped", "detail": "", "seconds": 0.0}
REPORT = {
    "steps": [STEP, LEFT_OUT],
    "reason": "This is a Python pickle.",
    "advice": "Convert it.",
    "facts": {"peak_bytes": 50_000_000},
    "attempts": 1,
}


def test_a_publisher_reads_why_a_version_is_rejected(marketplace: Marketplace) -> None:
    factories.version(marketplace.model, status="REJECTED", released_at=None, report=REPORT)

    answer = marketplace.publisher.data(CHECK, ref="openlab/digits")

    assert answer["model"]["versions"]["edges"][0]["node"]["check"] == {
        "steps": [STEP | {"status": "FAILED"}, LEFT_OUT | {"status": "SKIPPED"}],
        "reason": "This is a Python pickle.",
        "advice": "Convert it.",
        "facts": {"peak_bytes": 50_000_000},
    }


def test_a_version_that_the_operator_put_up_has_no_check(marketplace: Marketplace) -> None:
    factories.version(marketplace.model, status="READY")

    answer = marketplace.publisher.data(CHECK, ref="openlab/digits")

    assert answer["model"]["versions"]["edges"][0]["node"]["check"] is None


def test_many_versions_need_no_more_queries_than_one(marketplace: Marketplace) -> None:
    alone = marketplace.publisher.queries(CHECK, ref="openlab/digits")
    for _ in range(5):
        factories.version(marketplace.model, status="REJECTED", released_at=None, report=REPORT)

    assert len(marketplace.publisher.queries(CHECK, ref="openlab/digits")) == len(alone)
