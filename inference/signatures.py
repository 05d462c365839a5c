"""The signature of a version, read once per process: a version never changes."""

from uuid import UUID

from marketplace.catalog.models import Direction, TensorSpec

from . import tensors

MOST = 4096

_signatures: dict[UUID, tensors.Signature] = {}


async def signature_of(version_id: UUID) -> tensors.Signature:
    signature = _signatures.get(version_id)
    if signature is None:
        specs: dict[str, list[tensors.TensorSpec]] = {Direction.INPUT: [], Direction.OUTPUT: []}
        async for row in TensorSpec.objects.filter(version_id=version_id).order_by("position"):
            specs[row.direction].append(tensors.TensorSpec(row.name, tensors.Datatype(row.datatype), tuple(row.shape)))
        signature = tensors.Signature(tuple(specs[Direction.INPUT]), tuple(specs[Direction.OUTPUT]))
        if len(_signatures) >= MOST:
            _signatures.pop(next(iter(_signatures)))
        _signatures[version_id] = signature
    return signature
