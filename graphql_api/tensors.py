"""Tensors as GraphQL has them."""

from typing import cast

import strawberry
from strawberry.scalars import JSON

from inference import tensors
from marketplace.catalog.models import Datatype

from .scalars import BigInt


@strawberry.input
class TensorInput:
    name: str
    datatype: Datatype
    shape: list[BigInt]
    data: JSON | None = strawberry.field(
        default=None,
        description="Exactly one of the two. `data`: nested or flat row-major JSON; BYTES as strings. "
        "`base64`: little-endian raw bytes; for BYTES, each element behind its 4-byte length.",
    )
    base64: str | None = None


@strawberry.type
class Tensor:
    tensor: strawberry.Private[tensors.Tensor]

    @strawberry.field
    def name(self) -> str:
        return self.tensor.name

    @strawberry.field
    def datatype(self) -> Datatype:
        return Datatype(self.tensor.datatype.value)

    @strawberry.field
    def shape(self) -> list[BigInt]:
        return [BigInt(size) for size in self.tensor.shape]

    @strawberry.field(description="Nested by shape; null where JSON has no such value (NaN, infinity, binary BYTES).")
    def data(self) -> JSON | None:
        return cast("JSON", self.tensor.data())

    @strawberry.field
    def base64(self) -> str | None:
        return self.tensor.base64()
