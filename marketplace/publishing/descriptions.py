"""What a publisher says of a version's tensors. It changes nothing of how they answer: at any time."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import Datatype, Direction, ModelVersion, TensorSpec
from marketplace.errors import ValidationProblem
from marketplace.texts import is_printable

from .ownership import own_version
from .validation import check, input_path

MAX_EXAMPLE_BYTES = 1024**2  # as JSON: whoever looks at the model is sent it
MAX_LABELS = 65_536
# RFC 6838, 4.2, in lower case, and without parameters.
MEDIA_TYPE = re.compile("[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
LARGEST_FLOATS = {
    "FP16": 65504.0,
    "BF16": (2 - 2**-7) * 2.0**127,
    "FP32": (2 - 2**-23) * 2.0**127,
    "FP64": sys.float_info.max,
}


@dataclass(frozen=True, slots=True)
class Description:
    """One tensor, described anew: what is None is not said any more. `example` is flat and row-major.

    `example_shape` may be left out where the tensor's own shape is fixed, or has one dynamic dimension.
    """

    direction: Direction
    name: str
    content_type: str | None = None
    labels: Sequence[str] | None = None
    example: object | None = None
    example_shape: Sequence[int] | None = None


@transaction.atomic
def describe(
    principal: Principal, *, version_id: UUID, tensors: Sequence[Description] = (), release_notes: str | None = None
) -> ModelVersion:
    """Tensors that are not named, and release notes of None, stay as they are. Raises ValidationProblem, NotFound."""
    version = own_version(principal, version_id)
    rows = {(row.direction, row.name): row for row in version.tensors.all()}
    described = [_described(rows, tensor, number) for number, tensor in enumerate(tensors)]
    TensorSpec.objects.bulk_update(described, ["content_type", "labels", "example", "example_shape"])
    if release_notes is not None:
        version.release_notes = release_notes
        check(version, ("release_notes",), input_path)
        version.save(update_fields=["release_notes"])
    return version


def _described(rows: Mapping[tuple[str, str], TensorSpec], tensor: Description, number: int) -> TensorSpec:
    path = f"input.tensors.{number}"
    row = rows.get((tensor.direction, tensor.name))
    if row is None:
        raise ValidationProblem(_("This version has no such tensor."), path=f"{path}.name")
    row.content_type = tensor.content_type
    row.labels = None if tensor.labels is None else list(tensor.labels)
    if row.labels is not None:
        _check_count(row.labels, row.shape, f"{path}.labels")
    check(row, ("content_type", "labels"), lambda field: input_path(field).replace("input", path, 1))
    if row.content_type is not None and not MEDIA_TYPE.fullmatch(row.content_type):
        raise ValidationProblem(_("A content type is like text/plain or image/png."), path=f"{path}.contentType")
    row.example, row.example_shape = tensor.example, _example_shape(row, tensor, path)
    return row


def _check_count(labels: Sequence[str], shape: Sequence[int], path: str) -> None:
    """A label for each index of the last dimension, which is what scores are counted along."""
    if len(labels) > MAX_LABELS or shape[-1] not in (-1, len(labels)):
        raise ValidationProblem(
            _("One label for each of %(wanted)d indices, and these are %(count)d.")
            % {"wanted": shape[-1] if shape[-1] != -1 else MAX_LABELS, "count": len(labels)},
            path=path,
        )


def _example_shape(row: TensorSpec, tensor: Description, path: str) -> list[int] | None:
    """The example's shape, when it and its values fit the tensor."""
    values, shape = tensor.example, tensor.example_shape
    if values is None:
        if shape is not None:
            raise ValidationProblem(_("There is no example of this shape."), path=f"{path}.exampleShape")
        return None
    if not isinstance(values, list):
        raise ValidationProblem(_("An example is a flat list of values."), path=f"{path}.example")
    wanted = _only_shape(row.shape, len(values)) if shape is None else list(shape)
    if len(wanted) != len(row.shape) or any(
        size < 0 or fixed not in (-1, size) for size, fixed in zip(wanted, row.shape, strict=True)
    ):
        raise ValidationProblem(
            _("The example's shape does not fit the tensor's, which is %(shape)s.") % {"shape": row.shape},
            path=f"{path}.exampleShape",
        )
    if math.prod(wanted) != len(values):
        raise ValidationProblem(
            _("An example of this shape has %(wanted)d values, not %(count)d.")
            % {"wanted": math.prod(wanted), "count": len(values)},
            path=f"{path}.example",
        )
    if not all(_fits(value, row.datatype) for value in values):
        raise ValidationProblem(
            _("The example has a value that is no %(datatype)s.") % {"datatype": row.datatype}, path=f"{path}.example"
        )
    if len(json.dumps(values)) > MAX_EXAMPLE_BYTES:
        raise ValidationProblem(
            _("An example has at most %(most)d bytes as JSON.") % {"most": MAX_EXAMPLE_BYTES}, path=f"{path}.example"
        )
    return wanted


def _only_shape(shape: Sequence[int], count: int) -> list[int]:
    """The one shape of so many values that fits; `shape` itself, which fits nothing, where there are several."""
    rest = math.prod(size for size in shape if size != -1)
    dynamic = sum(size == -1 for size in shape)
    return [count // rest if size == -1 else size for size in shape] if dynamic <= 1 else list(shape)


def _fits(value: object, datatype: str) -> bool:
    if datatype == Datatype.BYTES:
        return isinstance(value, str) and is_printable(value)
    if datatype == Datatype.BOOL:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if datatype in LARGEST_FLOATS:
        return -LARGEST_FLOATS[datatype] <= value <= LARGEST_FLOATS[datatype]
    signed, bits = not datatype.startswith("U"), int(datatype.removeprefix("U").removeprefix("INT"))
    lowest = -(2 ** (bits - 1)) if signed else 0
    return isinstance(value, int) and lowest <= value < lowest + 2**bits
