"""Model cards: CommonMark with tables, rendered without raw HTML and sanitised all the same."""

import nh3
from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_URL_SCHEMES = {"http", "https", "mailto"}


def rendered(card: str) -> str:
    return nh3.clean(_MARKDOWN.render(card), url_schemes=_URL_SCHEMES, link_rel="nofollow noopener noreferrer")
