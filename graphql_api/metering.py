"""What a tenant has used, and may still use."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import strawberry
import strawberry_django
from strawberry import relay

from inference.tensors import unpack
from marketplace.metering import models as metering
from marketplace.metering import receipts
from marketplace.metering.budgets import current_spending, in_force
from marketplace.metering.models import HoldState
from marketplace.subscriptions.models import MeteredUnit

from .catalog import Model, ModelVersion
from .connections import Order
from .context import Info
from .money import Money
from .nodes import ByPrimaryKey
from .tensors import Tensor

LATEST_FIRST = Order("latest", ("id",))


@strawberry.type(description="At every instant: limit = settled + held + remaining.")
class Quota:
    period_start: datetime
    period_end: datetime
    limit: Decimal
    settled: Decimal = strawberry.field(description="Delivered and charged.")
    held: Decimal = strawberry.field(description="Set aside for calls that run now.")

    @strawberry.field
    def remaining(self) -> Decimal:
        return self.limit - self.settled - self.held


@strawberry.type(
    description="A calendar month (UTC) of a budget. At every instant: limit = settled + held + remaining."
)
class Spending:
    period_start: datetime
    period_end: datetime
    limit: Money
    settled: Money = strawberry.field(description="For calls that were delivered.")
    held: Money = strawberry.field(description="Set aside for calls that run now.")

    @strawberry.field
    def remaining(self) -> Money:
        return Money(amount=self.limit.amount - self.settled.amount - self.held.amount, currency=self.limit.currency)


@strawberry_django.type(
    metering.Budget,
    description="What calls past included units may cost in a calendar month (UTC), on plans in its currency: a "
    "tenant's spending cap, or the budget of one API key. It counts the calls that are made while it is set.",
)
class Budget:
    @classmethod
    def get_queryset(cls, queryset: "metering.BudgetQuerySet", info: Info) -> "metering.BudgetQuerySet":
        return in_force(queryset).order_by("currency")

    @strawberry_django.field(only=["amount", "currency"])
    def amount(self: Any) -> Money:
        return Money(amount=self.amount, currency=self.currency)

    @strawberry_django.field(annotate=current_spending(), only=["amount", "currency"], description="This month.")
    def spending(self: Any) -> Spending:
        def money(amount: Decimal) -> Money:
            return Money(amount=amount, currency=self.currency)

        return Spending(
            period_start=self.spending_start,
            period_end=self.spending_end,
            limit=money(self.spending_limit),
            settled=money(self.spending_settled),
            held=money(self.spending_held),
        )


@strawberry.enum
class InvocationStatus(Enum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@strawberry_django.type(
    metering.Hold, name="Invocation", description="One call of one version by one tenant, on whatever protocol."
)
class Invocation(ByPrimaryKey, relay.Node):
    model: Model = strawberry_django.field(field_name="version__model")
    version: ModelVersion
    unit: MeteredUnit = strawberry_django.field(description="What is counted: as the plan said when it was admitted.")
    units: Decimal = strawberry_django.field(field_name="charged", description="What was charged.")
    latency_ms: float | None
    created_at: datetime

    @strawberry_django.field(only=["state", "released_because"])
    def status(self: Any) -> InvocationStatus:
        if self.state in (HoldState.HELD, HoldState.EXECUTING):
            return InvocationStatus.RUNNING
        if self.state == HoldState.SETTLED:
            return InvocationStatus.SUCCEEDED
        return InvocationStatus.CANCELLED if self.released_because == "CANCELLED" else InvocationStatus.FAILED

    @strawberry_django.field(
        annotate=receipts.charge(),
        select_related=receipts.RELATED,
        only=receipts.FIELDS,
        description="A signed statement (compact JWS) of what was called, delivered and charged; null until it has "
        "succeeded. The public key is at /.well-known/jwks.json.",
    )
    def receipt(self: Any) -> str | None:
        hold = self
        if not hasattr(hold, "amount"):
            # As invokeModel answers with it: not read from the database.
            hold = receipts.with_charge().get(pk=self.pk)
        return receipts.receipt(hold)

    @strawberry_django.field(
        select_related=["stored_answer"],
        description="Null until it has succeeded, and where the answer is not kept: only calls with an idempotency key "
        "are, for their retries.",
    )
    def outputs(self: Any) -> list[Tensor] | None:
        if hasattr(self, "delivered"):
            delivered = self.delivered
        else:
            kept = getattr(self, "stored_answer", None)
            delivered = unpack(bytes(kept.content)) if kept is not None else None
        return None if delivered is None else [Tensor(tensor=tensor) for tensor in delivered]
