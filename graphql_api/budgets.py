"""What may be spent: the tenant's spending caps, and budgets of single API keys."""

from decimal import Decimal

import strawberry
import strawberry_django
from django.db.models import QuerySet

from marketplace.metering import budgets
from marketplace.tenants import models as accounts

from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import primary_key
from .tenants import ApiKey, Tenant


@strawberry.input
class SetSpendingCapInput:
    amount: Decimal = strawberry.field(description="Per calendar month (UTC); 0: nothing past what plans include.")
    currency: str = strawberry.field(default="USD", description="ISO 4217. It caps plans in this currency.")


@strawberry.input
class RemoveSpendingCapInput:
    currency: str = strawberry.field(default="USD", description="ISO 4217.")


@strawberry.input
class SetApiKeyBudgetInput(SetSpendingCapInput):
    api_key: strawberry.ID


@strawberry.input
class RemoveApiKeyBudgetInput(RemoveSpendingCapInput):
    api_key: strawberry.ID


@strawberry.type
class _TenantPayload:
    row: strawberry.Private["QuerySet[accounts.Tenant] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=Tenant | None)
    def tenant(self) -> "QuerySet[accounts.Tenant] | None":
        return self.row


@strawberry.type
class SetSpendingCapPayload(_TenantPayload):
    pass


@strawberry.type
class RemoveSpendingCapPayload(_TenantPayload):
    pass


@strawberry.type
class _ApiKeyPayload:
    row: strawberry.Private["QuerySet[accounts.ApiKey] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ApiKey | None)
    def api_key(self) -> "QuerySet[accounts.ApiKey] | None":
        return self.row


@strawberry.type
class SetApiKeyBudgetPayload(_ApiKeyPayload):
    pass


@strawberry.type
class RemoveApiKeyBudgetPayload(_ApiKeyPayload):
    pass


@strawberry.type
class BudgetsMutation:
    @strawberry.mutation(description="Sets the cap, or changes it: from the next call on.")
    @expected_failures(SetSpendingCapPayload)
    def set_spending_cap(self, info: Info, input: SetSpendingCapInput) -> SetSpendingCapPayload:
        principal = info.context.principal
        budgets.set_spending_cap(principal, amount=input.amount, currency=input.currency)
        return SetSpendingCapPayload(row=accounts.Tenant.objects.visible_to(principal))

    @strawberry.mutation(description="From the next call on, what calls cost has no limit but the plans' own.")
    @expected_failures(RemoveSpendingCapPayload)
    def remove_spending_cap(self, info: Info, input: RemoveSpendingCapInput) -> RemoveSpendingCapPayload:
        principal = info.context.principal
        budgets.remove_spending_cap(principal, currency=input.currency)
        return RemoveSpendingCapPayload(row=accounts.Tenant.objects.visible_to(principal))

    @strawberry.mutation(
        description="Sets the budget, or changes it: from the next call on. A key that has a budget itself may not, "
        "unless its role may set spending limits."
    )
    @expected_failures(SetApiKeyBudgetPayload)
    def set_api_key_budget(self, info: Info, input: SetApiKeyBudgetInput) -> SetApiKeyBudgetPayload:
        key_id = primary_key(input.api_key, "ApiKey", path="input.apiKey")
        budgets.set_key_budget(info.context.principal, api_key_id=key_id, amount=input.amount, currency=input.currency)
        return SetApiKeyBudgetPayload(row=accounts.ApiKey.objects.filter(pk=key_id))

    @strawberry.mutation(description="From the next call on, the key is bound by the tenant's spending caps alone.")
    @expected_failures(RemoveApiKeyBudgetPayload)
    def remove_api_key_budget(self, info: Info, input: RemoveApiKeyBudgetInput) -> RemoveApiKeyBudgetPayload:
        key_id = primary_key(input.api_key, "ApiKey", path="input.apiKey")
        budgets.remove_key_budget(info.context.principal, api_key_id=key_id, currency=input.currency)
        return RemoveApiKeyBudgetPayload(row=accounts.ApiKey.objects.filter(pk=key_id))
