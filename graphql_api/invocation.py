"""invokeModel: GraphQL's door to inference.invocation."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import strawberry
from strawberry.scalars import JSON

import inference.invocation
from inference.callers import place_of
from inference.records import hand_back_connection
from inference.tensors import RawTensor
from marketplace.access import Principal
from marketplace.errors import MarketplaceError, Unauthenticated
from marketplace.metering.models import Hold, HoldState

from .context import Info
from .errors import Problem, problem_of
from .metering import Invocation
from .mutation import expected_failures, signed_in
from .nodes import global_id
from .tensors import Tensor, TensorInput


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


@strawberry.type(description="`sequence` counts from 0. Of text, each chunk has what came since the one before it.")
class InvocationChunk:
    sequence: int
    outputs: list[Tensor]
    invocation_id: strawberry.ID = strawberry.field(
        description="Of the Invocation that comes at the end. Whoever leaves before that finds it by this in `node`."
    )


InvokeModelEvent = Annotated[InvocationChunk | InvokeModelPayload, strawberry.union("InvokeModelEvent")]


async def deliver(
    principal: Principal, input: InvokeModelInput, *, hinted: bool = False
) -> inference.invocation.Invocation:
    """What the general executor and a compiled plan have in common."""
    return await inference.invocation.invoke(principal, **_call(input), hinted=hinted)


def _call(input: InvokeModelInput) -> dict[str, Any]:
    return {
        "ref": input.model,
        "version": input.version,
        "inputs": [
            RawTensor(tensor.name, tensor.datatype.value, tensor.shape, tensor.data, tensor.base64)
            for tensor in input.inputs
        ],
        "outputs": input.outputs,
        "parameters": input.parameters,
        "idempotency_key": input.idempotency_key,
    }


def _payload(done: inference.invocation.Invocation) -> InvokeModelPayload:
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


@strawberry.type
class InvocationMutation:
    @strawberry.mutation
    @expected_failures(InvokeModelPayload)
    async def invoke_model(self, info: Info, input: InvokeModelInput) -> InvokeModelPayload:
        # Who asks was looked up through the ORM.
        await hand_back_connection()
        return _payload(await deliver(info.context.principal, input))


@strawberry.type
class InvocationSubscription:
    @strawberry.subscription(
        description="Partial outputs as the model yields them, then the settled invocation, without outputs. Whoever "
        "leaves before that ends the call, and is charged what was delivered."
    )
    async def invoke_model(self, info: Info, input: InvokeModelInput) -> AsyncGenerator[InvokeModelEvent]:
        principal = signed_in(info)
        await hand_back_connection()
        try:
            with place_of(info.context.caller):
                async with aclosing(inference.invocation.stream(principal, **_call(input))) as events:
                    sequence = 0
                    async for event in events:
                        if isinstance(event, inference.invocation.Invocation):
                            yield _payload(event)
                        else:
                            yield InvocationChunk(
                                sequence=sequence,
                                outputs=[Tensor(tensor=tensor) for tensor in event.outputs],
                                invocation_id=strawberry.ID(global_id("Invocation", event.id)),
                            )
                            sequence += 1
        except Unauthenticated:
            raise
        except MarketplaceError as error:
            yield InvokeModelPayload(errors=[problem_of(error)])
