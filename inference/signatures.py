"""The signature of a version, read once per process: a version never changes."""

from collections.abc import Iterable
from uuid import UUID

from asgiref.sync import sync_to_async

from marketplace.catalog.models import Direction, TensorSpec

from . import tensors
from .records import looked_up

MOST = 4096

_signatures: dict[UUID, tensors.Signature] = {}


@sync_to_async
def _rows(version_id: UUID) -> list[TensorSpec]:
    return list(TensorSpec.objects.filter(version_id=version_id).order_by("position"))


async def signature_of(version_id: UUID) -> tensors.Signature:
    signature = _signatures.get(version_id)
    if signature is None:
        signature = signature_from(await looked_up(_rows(version_id)))
        if len(_signatures) >= MOST:
            _signatures.pop(next(iter(_signatures)))
        _signatures[version_id] = signature
    return signature


def signature_from(rows: Iterable[TensorSpec]) -> tensors.Signature:
    """`rows` in the order of their positions."""
    specs: dict[str, list[tensors.TensorSpec]] = {Direction.INPUT: [], Direction.OUTPUT: []}
    for row in rows:
        specs[row.direction].append(tensors.TensorSpec(row.name, tensors.Datatype(row.datatype), tuple(row.shape)))
    return tensors.Signature(tuple(specs[Direction.INPUT]), tuple(specs[Direction.OUTPUT]))
