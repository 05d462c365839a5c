"""What one side tells the other: a message, a reason."""

import unicodedata

from django.utils.translation import gettext as _

from .errors import ValidationProblem

MAX_TEXT = 2000


# Unicode's embeddings, overrides and isolates (UAX #9): they turn around what stands beside a text.
_TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def is_printable(text: str, *, multiline: bool = True) -> bool:
    """As UTF-8 has it, and something to see unless it is empty.

    Without control characters, but for tabs and ends of lines in what is `multiline`, and without those that turn
    around what stands beside a text.
    """
    kinds = {unicodedata.category(character) for character in text if not (multiline and character in "\t\n\r")}
    return not kinds & {"Cc", "Cs"} and not _TURNING & set(text) and not ("Cf" in kinds and kinds <= {"Cf", "Zs"})


def checked_text(text: str, *, path: str, required: str = "") -> str:
    """Without spaces around it. Raises ValidationProblem for what is too long, cannot be kept or is not there.

    `required` is what to say then; without it, nothing said is as good.
    """
    text = text.strip()
    if len(text) > MAX_TEXT or not is_printable(text):
        raise ValidationProblem(_("At most %(most)d printable characters.") % {"most": MAX_TEXT}, path=path)
    if required and not text:
        raise ValidationProblem(required, path=path)
    return text
