"""What a publisher typed, checked against the model's own fields before anything is written."""

from collections.abc import Callable, Iterable, Sequence

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from marketplace.catalog.models import Direction, TensorSpec
from marketplace.errors import ValidationProblem
from marketplace.texts import is_printable


def input_path(field: str) -> str:
    """`display_name` is `input.displayName` to who called."""
    head, *rest = field.split("_")
    return "input." + head + "".join(word.capitalize() for word in rest)


def check(row: models.Model, fields: Iterable[str], path_of: Callable[[str], str]) -> None:
    """Raises a ValidationProblem for the first of `fields` that is wrong; `path_of` makes a path of a field's name."""
    fields = tuple(fields)
    for name in fields:
        _check_text(row._meta.get_field(name), getattr(row, name), path_of(name))
    try:
        row.clean_fields(exclude={field.name for field in row._meta.get_fields()} - set(fields))
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise ValidationProblem(messages[0], path=path_of(field)) from error


def _check_text(field: object, value: object, path: str) -> None:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair, and a name is one line."""
    multiline = isinstance(field, models.TextField)
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        if not is_printable(text, multiline=multiline):
            raise ValidationProblem(_("Remove the characters that cannot be printed."), path=path)
        # Django enforces a text field's length in forms only.
        if isinstance(field, models.TextField) and field.max_length and len(text) > field.max_length:
            raise ValidationProblem(
                _("At most %(most)d characters, and these are %(count)d.")
                % {"most": field.max_length, "count": len(text)},
                path=path,
            )


def save(row: models.Model, *, taken: str | Promise, path: str, fields: Iterable[str] | None = None) -> None:
    """Writes the row; when its unique name is `taken`, also by somebody just now, that is a ValidationProblem."""
    try:
        with transaction.atomic():
            row.save(force_insert=fields is None, update_fields=fields)
    except IntegrityError as error:
        if getattr(error.__cause__, "sqlstate", None) != "23505":
            raise
        raise ValidationProblem(str(taken), path=path) from error


def check_signature(tensors: Sequence[TensorSpec]) -> Sequence[TensorSpec]:
    """The same tensors, when each is sound and there is something to send and something to get. Paths count from 0."""
    seen = set()
    for number, tensor in enumerate(tensors):
        path = f"input.signature.{number}"
        check(tensor, ("direction", "name", "datatype", "shape", "content_type", "labels"), (path + ".{}").format)
        if any(size < -1 or size == 0 for size in tensor.shape):
            raise ValidationProblem(_("A dimension is at least 1, or -1 when it is dynamic."), path=f"{path}.shape")
        if (tensor.direction, tensor.name) in seen:
            raise ValidationProblem(_("There are two tensors of this name."), path=f"{path}.name")
        seen.add((tensor.direction, tensor.name))
    if {direction for direction, _name in seen} != set(Direction):
        raise ValidationProblem(_("A model takes at least one input and gives at least one output."), path="input")
    return tensors
