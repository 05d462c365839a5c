"""Who sets what may be spent, and what cannot be set."""

from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from marketplace.access import Principal, TenantRole
from marketplace.errors import BudgetExceeded, NotFound, PermissionDenied, Unauthenticated, ValidationProblem
from marketplace.metering.admission import settle
from marketplace.metering.budgets import (
    MAX_CURRENCIES,
    current_spending,
    in_force,
    remove_key_budget,
    remove_spending_cap,
    require_no_budget_of_its_own,
    set_key_budget,
    set_spending_cap,
)
from marketplace.metering.models import Budget, Spending
from marketplace.tenants.models import ApiKey, Tenant
from tests import factories

from .contract import contract
from .test_terms import QUARTER, exact

pytestmark = pytest.mark.django_db

MAY_CAP = {TenantRole.OWNER, TenantRole.ADMIN, TenantRole.BILLING}
MAY_TEND_KEYS = {TenantRole.OWNER, TenantRole.ADMIN, TenantRole.DEVELOPER}


@pytest.fixture
def acme() -> Tenant:
    return factories.tenant("acme")


@pytest.fixture
def owner(acme: Tenant) -> Principal:
    return factories.principal(acme)


@pytest.fixture
def key(acme: Tenant) -> ApiKey:
    return factories.api_key_row(acme)


def as_key(key: ApiKey) -> Principal:
    return Principal(tenant_id=key.tenant_id, api_key_id=key.pk, role=TenantRole(key.role))


def month(of: Budget) -> Any:
    return Budget.objects.annotate(**current_spending()).get(pk=of.pk)


def test_a_cap_is_one_row_per_currency_and_setting_it_again_changes_it(owner: Principal) -> None:
    first = set_spending_cap(owner, amount=Decimal(5), currency="USD")
    set_spending_cap(owner, amount=Decimal(7), currency="EUR")
    again = set_spending_cap(owner, amount=Decimal("9.5"), currency="USD")

    assert again.pk == first.pk
    assert sorted(Budget.objects.values_list("currency", "amount", "api_key")) == [
        ("EUR", 7, None),
        ("USD", Decimal("9.5"), None),
    ]


def test_a_key_s_budget_stands_beside_the_cap_and_the_budgets_of_other_keys(
    owner: Principal, acme: Tenant, key: ApiKey
) -> None:
    other = factories.api_key_row(acme)

    set_spending_cap(owner, amount=Decimal(9), currency="USD")
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")
    set_key_budget(owner, api_key_id=other.pk, amount=Decimal(2), currency="USD")
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(3), currency="USD")

    assert dict(Budget.objects.values_list("api_key", "amount")) == {None: 9, key.pk: 3, other.pk: 2}


@pytest.mark.parametrize(
    ("amount", "currency", "path"),
    [
        (Decimal(-1), "USD", "input.amount"),
        (Decimal("1e15"), "USD", "input.amount"),
        (Decimal("0.0000000001"), "USD", "input.amount"),
        (Decimal("NaN"), "USD", "input.amount"),
        (Decimal("Infinity"), "USD", "input.amount"),
        (Decimal(1), "usd", "input.currency"),
        (Decimal(1), "EURO", "input.currency"),
        (Decimal(1), "", "input.currency"),
        (Decimal(1), "US\0", "input.currency"),
        (Decimal(1), "USD\n", "input.currency"),
    ],
)
def test_what_cannot_be_set_names_its_field(
    owner: Principal, key: ApiKey, amount: Decimal, currency: str, path: str
) -> None:
    with pytest.raises(ValidationProblem) as cap:
        set_spending_cap(owner, amount=amount, currency=currency)
    with pytest.raises(ValidationProblem) as budget:
        set_key_budget(owner, api_key_id=key.pk, amount=amount, currency=currency)

    assert (cap.value.path, budget.value.path) == (path, path)
    assert not Budget.objects.exists()


def test_there_are_not_as_many_currencies_as_anybody_likes(owner: Principal) -> None:
    for number in range(MAX_CURRENCIES):
        set_spending_cap(owner, amount=Decimal(1), currency=f"XA{chr(65 + number)}")

    with pytest.raises(ValidationProblem, match="currencies can be limited") as problem:
        set_spending_cap(owner, amount=Decimal(1), currency="USD")
    set_spending_cap(owner, amount=Decimal(2), currency="XAA")

    assert problem.value.path == "input.currency"


@pytest.mark.parametrize("role", TenantRole)
def test_which_roles_cap_what_the_tenant_spends(acme: Tenant, owner: Principal, role: TenantRole) -> None:
    somebody = factories.principal(acme, role)
    set_spending_cap(owner, amount=Decimal(1), currency="USD")

    if role in MAY_CAP:
        set_spending_cap(somebody, amount=Decimal(2), currency="USD")
        remove_spending_cap(somebody, currency="USD")
        assert not in_force(Budget.objects.all()).exists()
    else:
        with pytest.raises(PermissionDenied, match="set spending limits"):
            set_spending_cap(somebody, amount=Decimal(2), currency="USD")
        with pytest.raises(PermissionDenied):
            remove_spending_cap(somebody, currency="USD")
        assert Budget.objects.get().amount == 1


@pytest.mark.parametrize("role", TenantRole)
def test_which_roles_set_the_budgets_of_keys(acme: Tenant, owner: Principal, key: ApiKey, role: TenantRole) -> None:
    somebody = factories.principal(acme, role)
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")

    if role in MAY_TEND_KEYS:
        set_key_budget(somebody, api_key_id=key.pk, amount=Decimal(2), currency="USD")
        remove_key_budget(somebody, api_key_id=key.pk, currency="USD")
        assert not in_force(Budget.objects.all()).exists()
    else:
        with pytest.raises(PermissionDenied):
            set_key_budget(somebody, api_key_id=key.pk, amount=Decimal(2), currency="USD")
        with pytest.raises(PermissionDenied):
            remove_key_budget(somebody, api_key_id=key.pk, currency="USD")
        assert Budget.objects.get().amount == 1


def test_nobody_is_asked_to_sign_in(key: ApiKey) -> None:
    with pytest.raises(Unauthenticated):
        set_spending_cap(Principal(), amount=Decimal(1), currency="USD")
    with pytest.raises(Unauthenticated):
        set_key_budget(Principal(), api_key_id=key.pk, amount=Decimal(1), currency="USD")


def test_a_stranger_finds_neither_the_key_nor_the_cap(owner: Principal, key: ApiKey) -> None:
    stranger = factories.principal(factories.tenant("globex"))
    set_spending_cap(owner, amount=Decimal(1), currency="USD")
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")

    with pytest.raises(NotFound) as set_it:
        set_key_budget(stranger, api_key_id=key.pk, amount=Decimal(9), currency="USD")
    with pytest.raises(NotFound) as removed_it:
        remove_key_budget(stranger, api_key_id=key.pk, currency="USD")
    with pytest.raises(NotFound) as removed_cap:
        remove_spending_cap(stranger, currency="USD")

    assert (set_it.value.path, removed_it.value.path) == ("input.apiKey", "input.apiKey")
    assert removed_cap.value.path == "input.currency"
    assert Budget.objects.filter(amount=1).count() == 2


def test_removing_the_cap_leaves_the_keys_budgets_and_the_other_way_round(owner: Principal, key: ApiKey) -> None:
    set_spending_cap(owner, amount=Decimal(1), currency="USD")
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")

    remove_spending_cap(owner, currency="USD")
    with pytest.raises(NotFound):
        remove_spending_cap(owner, currency="USD")

    assert in_force(Budget.objects.all()).get().api_key == key


class TestAKeyWithABudget:
    @pytest.fixture(autouse=True)
    def _budget(self, owner: Principal, key: ApiKey) -> None:
        set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")

    def test_cannot_widen_or_shed_it(self, key: ApiKey) -> None:
        with pytest.raises(PermissionDenied, match="This API key has a budget"):
            set_key_budget(as_key(key), api_key_id=key.pk, amount=Decimal(99), currency="USD")
        with pytest.raises(PermissionDenied):
            remove_key_budget(as_key(key), api_key_id=key.pk, currency="USD")
        assert Budget.objects.get().amount == 1

    def test_cannot_free_another_key(self, acme: Tenant, owner: Principal, key: ApiKey) -> None:
        other = factories.api_key_row(acme)
        set_key_budget(owner, api_key_id=other.pk, amount=Decimal(1), currency="USD")

        with pytest.raises(PermissionDenied):
            remove_key_budget(as_key(key), api_key_id=other.pk, currency="USD")

    def test_is_told_apart_from_one_without_and_from_the_people(
        self, acme: Tenant, owner: Principal, key: ApiKey
    ) -> None:
        require_no_budget_of_its_own(owner)
        require_no_budget_of_its_own(as_key(factories.api_key_row(acme)))
        with pytest.raises(PermissionDenied):
            require_no_budget_of_its_own(as_key(key))

    def test_whose_role_may_set_spending_limits_may_set_its_own(self, acme: Tenant, owner: Principal) -> None:
        admin = factories.api_key_row(acme, TenantRole.ADMIN)
        set_key_budget(owner, api_key_id=admin.pk, amount=Decimal(1), currency="USD")

        set_key_budget(as_key(admin), api_key_id=admin.pk, amount=Decimal(2), currency="USD")

        assert Budget.objects.get(api_key=admin).amount == 2


def test_a_month_without_calls_is_shown_whole(owner: Principal) -> None:
    shown = month(set_spending_cap(owner, amount=Decimal(5), currency="USD"))

    assert (shown.spending_limit, shown.spending_settled, shown.spending_held) == (5, 0, 0)
    assert (shown.spending_start.day, shown.spending_end.day) == (1, 1)
    assert 28 <= (shown.spending_end - shown.spending_start).days <= 31


def test_a_month_shows_what_was_spent_in_it_alone_and_a_lowered_limit_is_what_is_spent(owner: Principal) -> None:
    cap = set_spending_cap(owner, amount=Decimal(5), currency="USD")
    start, end = month(cap).spending_start, month(cap).spending_end
    before = start.replace(year=start.year - 1)
    Spending.objects.create(budget=cap, period_start=before, period_end=before.replace(day=28), limit=5, settled=4)
    Spending.objects.create(budget=cap, period_start=start, period_end=end, limit=5, settled=2, held=1)

    wide = month(cap)
    narrow = month(set_spending_cap(owner, amount=Decimal(1), currency="USD"))

    assert (wide.spending_limit, wide.spending_settled, wide.spending_held) == (5, 2, 1)
    assert (narrow.spending_limit, narrow.spending_settled, narrow.spending_held) == (3, 2, 1)


def test_a_cap_that_is_set_again_goes_on_counting(owner: Principal) -> None:
    cap = set_spending_cap(owner, amount=Decimal(5), currency="USD")
    start, end = month(cap).spending_start, month(cap).spending_end
    Spending.objects.create(budget=cap, period_start=start, period_end=end, limit=5, settled=2)

    remove_spending_cap(owner, currency="USD")
    again = set_spending_cap(owner, amount=Decimal(3), currency="USD")

    assert month(again).spending_settled == 2


def test_a_key_whose_budget_was_removed_is_free_again(owner: Principal, key: ApiKey) -> None:
    set_key_budget(owner, api_key_id=key.pk, amount=Decimal(1), currency="USD")
    remove_key_budget(owner, api_key_id=key.pk, currency="USD")

    require_no_budget_of_its_own(as_key(key))


@pytest.mark.django_db(transaction=True)
async def test_a_removed_cap_lets_calls_through_and_set_again_it_goes_on_from_where_it_was() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    owner = factories.principal(acme.consumer)
    set_cap, remove_cap = sync_to_async(set_spending_cap), sync_to_async(remove_spending_cap)

    await set_cap(owner, amount=QUARTER, currency="USD")
    await settle(await acme.admit(), latency_ms=1)
    with pytest.raises(BudgetExceeded):
        await acme.admit()
    await remove_cap(owner, currency="USD")
    await settle(await acme.admit(), latency_ms=1)
    await set_cap(owner, amount=2 * QUARTER, currency="USD")
    await settle(await acme.admit(), latency_ms=1)
    with pytest.raises(BudgetExceeded) as refused:
        await acme.admit()

    assert (refused.value.limit, refused.value.remaining) == (2 * QUARTER, 0)
    assert await exact()


@pytest.mark.django_db(transaction=True)
async def test_a_cap_that_is_removed_while_a_call_runs_is_still_charged_for_it() -> None:
    acme = await contract(included_units=0, overage_price=QUARTER)
    owner = factories.principal(acme.consumer)
    await sync_to_async(set_spending_cap)(owner, amount=QUARTER, currency="USD")
    hold = await acme.admit()

    await sync_to_async(remove_spending_cap)(owner, currency="USD")
    await settle(hold, latency_ms=1)

    assert (await Spending.objects.aget()).settled == QUARTER
    assert await exact()
