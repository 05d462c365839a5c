"""The GraphQL documents of the pages, each with the fragments that it spreads."""

import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SPREAD = re.compile(r"\.\.\.\s*([A-Z]\w*)")


@cache
def document(path: str) -> str:
    """The document at `path` (as in `pages/usage.graphql`), followed by every `fragments/*.graphql` that it needs."""
    parts = [(HERE / path).read_text(encoding="utf-8")]
    included: set[str] = set()
    # The list grows as it is walked: a fragment may spread others.
    for part in parts:
        for name in sorted(set(SPREAD.findall(part)) - included):
            included.add(name)
            parts.append((HERE / "fragments" / f"{name}.graphql").read_text(encoding="utf-8"))
    return "\n".join(parts)
