"""The classification extension: an output's largest values, as strings, in the place of the output itself.

A string is `value:index`, or `value:index:label` where the publisher named the classes. Written as Triton writes them
for models without a batch dimension of its own, which all of ours are to it: one ranking over the whole tensor.
"""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from inference.dataplane import describe
from inference.tensors import Datatype, Tensor
from inference.tensors.datatypes import FLOATS, STORAGE
from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.errors import ValidationProblem

_UNRANKED = frozenset({Datatype.BOOL, Datatype.BYTES, Datatype.FP16, Datatype.BF16})


async def check_classes(classes: Mapping[str, int], principal: Principal, ref: str, number: int | None) -> None:
    """What cannot be ranked is refused before it is charged. `classes`: by output, how many are asked for."""
    signature = await describe.signature(principal, ref, number)
    for spec in signature.outputs:
        if spec.name in classes:
            check_rankable(spec.name, spec.datatype)


async def with_classes(
    outputs: Sequence[Tensor], classes: Mapping[str, int], version: ModelVersion
) -> Sequence[Tensor]:
    """The outputs, those that classes are asked of in that form."""
    if not classes:
        return outputs
    return [
        # Ranking millions of values takes seconds.
        await asyncio.to_thread(classified, tensor, classes[tensor.name], await describe.labels(version, tensor.name))
        if tensor.name in classes
        else tensor
        for tensor in outputs
    ]


def check_rankable(name: str, datatype: Datatype) -> None:
    if datatype in _UNRANKED:
        raise ValidationProblem(
            f"class result not available for output due to unsupported type '{datatype}'", path=f"input.outputs.{name}"
        )


def classified(tensor: Tensor, most: int, labels: Sequence[str]) -> Tensor:
    """At most `most` classes, the largest value first; of equal ones, the first."""
    check_rankable(tensor.name, tensor.datatype)
    values = np.frombuffer(tensor.content, dtype=STORAGE[tensor.datatype])
    # Sorted backwards and turned round, so that equal values keep their order; NaN is the largest of all.
    order = (len(values) - 1 - np.argsort(values[::-1], kind="stable"))[::-1][:most]
    written = "{:f}:{:d}" if tensor.datatype in FLOATS else "{:d}:{:d}"
    texts = [
        written.format(value, index) + (f":{labels[index]}" if index < len(labels) else "")
        for value, index in zip(values[order].tolist(), order.tolist(), strict=True)
    ]
    encoded = [text.encode() for text in texts]
    content = b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
    return Tensor(tensor.name, Datatype.BYTES, (len(encoded),), content)
