"""Each page's document is an example of the API: valid, used, and needing nothing that is not there."""

import re
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from frontend.documents import HERE, document
from frontend.forms import Form
from frontend.page import Page
from frontend.samples import graphql
from frontend.views import BecomePublisher, Explore, Keys, Model, Publisher, Usage
from graphql_api.schema import schema

PAGES: list[type[Page]] = [BecomePublisher, Explore, Keys, Model, Publisher, Usage]
FORMS: list[Form] = [form for page in PAGES for form in page.forms.values()]
PATHS = sorted(
    str(path.relative_to(HERE)) for folder in ("pages", "actions") for path in (HERE / folder).glob("*.graphql")
)


def problems(text: str) -> list[str]:
    return [error.message for error in validate(build_schema(schema.as_str()), parse(text))]


@pytest.mark.parametrize("path", PATHS)
def test_a_document_is_valid(path: str) -> None:
    assert problems(document(path)) == []


def test_every_document_has_a_page_or_a_form() -> None:
    pages = {f"pages/{page.name}.graphql" for page in PAGES}
    assert pages | {f"actions/{form.name}.graphql" for form in FORMS} == set(PATHS)


def test_every_fragment_is_used() -> None:
    spread = {name for path in PATHS for name in re.findall(r"fragment (\w+) on", document(path))}
    assert spread == {path.stem for path in (HERE / "fragments").iterdir()}


def test_the_samples_documents_are_valid() -> None:
    assert problems(graphql.MUTATION) == problems(graphql.SUBSCRIPTION) == []


@pytest.mark.parametrize("script", ["playground", "generator"])
def test_the_playgrounds_documents_are_valid(script: str) -> None:
    source = Path(HERE / f"static/playground/{script}.js").read_text(encoding="utf-8")
    documents = re.findall(r"const [A-Z]+ = `(.*?)`", source, re.DOTALL)
    assert documents
    assert [problems(document) for document in documents] == [[]] * len(documents)
