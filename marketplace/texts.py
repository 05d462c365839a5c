"""What one side tells the other: a message, a reason."""

from django.utils.translation import gettext as _

from .errors import ValidationProblem

MAX_TEXT = 2000


def checked_text(text: str, *, path: str, required: str = "") -> str:
    """Without spaces around it. Raises ValidationProblem for what is too long, cannot be kept or is not there.

    `required` is what to say then; without it, nothing said is as good.
    """
    text = text.strip()
    if len(text) > MAX_TEXT or "\x00" in text:
        raise ValidationProblem(_("At most %(most)d printable characters.") % {"most": MAX_TEXT}, path=path)
    if required and not text:
        raise ValidationProblem(required, path=path)
    return text
