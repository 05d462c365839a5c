"""The schema is what is committed, and holds everything that clients outside this repository rely on."""

from pathlib import Path

from graphql import build_schema, find_breaking_changes
from strawberry.printer import print_schema

from graphql_api import schema as room
from graphql_api.schema import schema

CONTRACT = Path(__file__).with_name("contract.graphql")
COMMITTED = Path(room.__file__).with_name("schema.graphql")


def test_the_committed_sdl_is_the_schema() -> None:
    assert COMMITTED.read_text() == print_schema(schema) + "\n", (
        "run: manage.py export_schema graphql_api.schema:schema > graphql_api/schema.graphql"
    )


def test_nothing_of_the_contract_is_missing_or_narrower() -> None:
    contract = build_schema(CONTRACT.read_text(), assume_valid=True)
    built = build_schema(print_schema(schema))

    broken = [change.description for change in find_breaking_changes(contract, built)]

    assert broken == []
