"""Amounts: of money, and of what plans count."""

from decimal import Decimal

import strawberry

from marketplace.subscriptions.models import MeteredUnit

strawberry.enum(
    MeteredUnit,
    description="What one unit is: a call, an element of its input tensors (all together), a second that the model "
    "took, or a token as the model counts them in its output token_count.",
)


@strawberry.type
class Money:
    amount: Decimal
    currency: str = strawberry.field(description="ISO 4217.")
