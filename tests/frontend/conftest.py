"""The marketplace of the API's tests, looked at through pages."""

import re
from typing import Any

from tests.graphql_api.conftest import Marketplace, _static_files_that_nobody_has_collected, marketplace

__all__ = ["Marketplace", "_static_files_that_nobody_has_collected", "marketplace"]


def words(response: Any) -> str:
    """What a person reads on the page: no tags, one space between words."""
    page = re.sub(r"<(script|svg)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", page).replace("&#x27;", "'").replace("&amp;", "&").split())
