"""The documents that the guides print are valid."""

import re

import pytest
from graphql import parse, validate

from graphql_api.schema import schema
from marketplace.embedded.process import PROJECT

DOCUMENTS = [
    (guide.name, document)
    for guide in sorted((PROJECT / "docs").glob("*.md"))
    for document in re.findall(r"^```graphql\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("guide", "document"), DOCUMENTS, ids=[guide for guide, _document in DOCUMENTS])
def test_a_guide_s_document_is_valid(guide: str, document: str) -> None:
    assert validate(schema._schema, parse(document)) == []
