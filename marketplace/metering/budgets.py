"""What calls past included units may cost in a calendar month: a tenant's spending cap, and budgets of its API keys."""

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import DateTimeField, DecimalField, Expression, F, Func, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal, find
from marketplace.errors import PermissionDenied, ValidationProblem
from marketplace.subscriptions.models import MONEY
from marketplace.tenants.models import ApiKey, Tenant

from .models import Budget, BudgetQuerySet, Spending

# Admission locks this month's row of each of them.
MAX_CURRENCIES = 20

_MONEY: "DecimalField[Any, Any]" = DecimalField(**MONEY)


@transaction.atomic
def set_spending_cap(principal: Principal, *, amount: Decimal, currency: str) -> Budget:
    """Holds from the next call on, for all of the tenant's plans in that currency (ISO 4217).

    Lowered below what this month has cost already, it takes nothing back and lets nothing more through.
    """
    principal.require(Permission.MANAGE_SPENDING)
    return _set(principal, None, amount, currency)


@transaction.atomic
def remove_spending_cap(principal: Principal, *, currency: str) -> None:
    """Raises NotFound where there is none."""
    _remove(principal, None, Permission.MANAGE_SPENDING, currency)


@transaction.atomic
def set_key_budget(principal: Principal, *, api_key_id: UUID, amount: Decimal, currency: str) -> Budget:
    """As `set_spending_cap`, for the calls of one key. Raises NotFound for another tenant's."""
    key = find(ApiKey.objects, principal, Permission.MANAGE_API_KEYS, path="input.apiKey", pk=api_key_id)
    require_no_budget_of_its_own(principal)
    return _set(principal, key, amount, currency)


@transaction.atomic
def remove_key_budget(principal: Principal, *, api_key_id: UUID, currency: str) -> None:
    key = find(ApiKey.objects, principal, Permission.MANAGE_API_KEYS, path="input.apiKey", pk=api_key_id)
    require_no_budget_of_its_own(principal)
    _remove(principal, key, Permission.MANAGE_API_KEYS, currency)


def require_no_budget_of_its_own(principal: Principal) -> None:
    """Raises PermissionDenied for an API key that has a budget: it could widen it, or make itself a key without one.

    Every key that may call models may manage keys as well, so the role alone would not hold it back. One whose role
    may set spending limits is trusted with them.
    """
    if principal.api_key_id is None or principal.can(Permission.MANAGE_SPENDING):
        return
    if in_force(Budget.objects.filter(api_key_id=principal.api_key_id)).exists():
        raise PermissionDenied(
            _("This API key has a budget: it may neither make keys nor set budgets. Sign in, or use another key.")
        )


def in_force(rows: BudgetQuerySet) -> BudgetQuerySet:
    """Those that are not removed."""
    return rows.exclude(amount=None)


def current_spending() -> dict[str, Expression]:
    """Annotations for Budgets: spending_start, spending_end, spending_limit, spending_settled, spending_held.

    Of this calendar month (UTC), also of one in which nobody has called yet and no row exists. A limit that was lowered
    below what is spent already is what is spent.
    """
    row: QuerySet[Spending] = Spending.objects.filter(
        budget=OuterRef("pk"), period_start__lte=Now(), period_end__gt=Now()
    )
    return {
        "spending_start": _Month(),
        "spending_end": _NextMonth(),
        "spending_settled": Coalesce(Subquery(row.values("settled")), Value(0), output_field=_MONEY),
        "spending_held": Coalesce(Subquery(row.values("held")), Value(0), output_field=_MONEY),
        "spending_limit": Greatest(F("amount"), F("spending_settled") + F("spending_held"), output_field=_MONEY),
    }


class _Month(Func):
    template = "date_trunc('month', now(), 'UTC')"
    output_field = DateTimeField()


class _NextMonth(Func):
    template = "((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')"
    output_field = DateTimeField()


def _set(principal: Principal, key: ApiKey | None, amount: Decimal, currency: str) -> Budget:
    assert principal.tenant_id is not None
    budget = Budget(tenant_id=principal.tenant_id, api_key=key, amount=amount, currency=currency)
    _check(budget)
    # Serialises them, so that the count below cannot be outrun; calls may still refer to the tenant.
    Tenant.objects.select_for_update(no_key=True).get(pk=principal.tenant_id)
    others = Budget.objects.filter(tenant_id=principal.tenant_id, api_key=key)
    known = others.filter(currency=currency).first()
    if known is not None:
        known.amount = amount
        known.save(update_fields=["amount"])
        return known
    if others.count() >= MAX_CURRENCIES:
        raise ValidationProblem(
            _("At most %(most)d currencies can be limited.") % {"most": MAX_CURRENCIES},
            path="input.currency",
        )
    budget.save()
    return budget


def _remove(principal: Principal, key: ApiKey | None, permission: Permission, currency: str) -> None:
    budget = find(
        in_force(Budget.objects.filter(api_key=key, currency=currency)),
        principal,
        permission,
        path="input.currency",
        lock=True,
    )
    # The row stays: admissions and calls under way know its months by id.
    budget.amount = None
    budget.save(update_fields=["amount"])


def _check(budget: Budget) -> None:
    if not re.fullmatch("[A-Z]{3}", budget.currency):
        raise ValidationProblem(_("A currency is three capital letters (ISO 4217), as in USD."), path="input.currency")
    try:
        budget.clean_fields(exclude={field.name for field in Budget._meta.get_fields()} - {"amount"})
    except ValidationError as error:
        raise ValidationProblem(error.messages[0], path="input.amount") from error
