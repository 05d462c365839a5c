"""invokeModel: GraphQL's door to inference.invocation."""

from typing import Any

import strawberry
from strawberry.scalars import JSON

import inference.invocation
from inference.records import hand_back_connection
from inference.tensors import RawTensor
from marketplace.access import Principal
from marketplace.metering.models import Hold, HoldState

from .context import Info
from .errors import Problem
from .metering import Invocation
from .mutation import expected_failures
from .tensors import TensorInput


@strawberry.input
class InvokeModelInput:
    model: str = strawberry.field(description="publisher/name")
    version: int | None = strawberry.field(default=None, description="The live version when left out.")
    inputs: list[TensorInput]
    outputs: list[str] | None = strawberry.field(default=None, description="All outputs when left out.")
    parameters: JSON | None = None
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="Unique per tenant. The same key with the same request answers with the first result and charges "
        "once; with another request it is an IdempotencyConflict.",
    )


@strawberry.type
class InvokeModelPayload:
    invocation: Invocation | None = None
    errors: list[Problem] = strawberry.field(default_factory=list)


async def deliver(
    principal: Principal, input: InvokeModelInput, *, hinted: bool = False
) -> inference.invocation.Invocation:
    """What the general executor and a compiled plan have in common."""
    return await inference.invocation.invoke(
        principal,
        ref=input.model,
        version=input.version,
        inputs=[
            RawTensor(tensor.name, tensor.datatype.value, tensor.shape, tensor.data, tensor.base64)
            for tensor in input.inputs
        ],
        outputs=input.outputs,
        parameters=input.parameters,
        idempotency_key=input.idempotency_key,
        hinted=hinted,
    )


@strawberry.type
class InvocationMutation:
    @strawberry.mutation
    @expected_failures(InvokeModelPayload)
    async def invoke_model(self, info: Info, input: InvokeModelInput) -> InvokeModelPayload:
        # Who asks was looked up through the ORM.
        await hand_back_connection()
        done = await deliver(info.context.principal, input)
        # The row as it was just settled: reading it back would cost another round trip.
        hold: Any = Hold(
            id=done.id,
            version=done.version,
            state=HoldState.SETTLED,
            unit=done.unit,
            charged=done.units,
            latency_ms=done.latency_ms,
            created_at=done.created_at,
        )
        hold.delivered = done.outputs
        return InvokeModelPayload(invocation=hold)
