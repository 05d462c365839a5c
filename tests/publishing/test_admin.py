"""What the operator does in the admin, and what even an operator does not."""

from decimal import Decimal

import pytest

from marketplace.catalog.models import ReleaseEvent
from marketplace.metering.models import Budget, Spending
from marketplace.tenants.models import Tenant
from tests import factories
from tests.publishing.conftest import House

NO_MEMBERS = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}


def test_a_new_tenant_can_be_given_grants(house: House) -> None:
    new = {"name": "New Lab", "slug": "newlab", "is_publisher": "on"} | NO_MEMBERS
    assert house.browser("operator").post("/admin/tenants/tenant/add/", new).status_code == 302
    tenant = Tenant.objects.get(slug="newlab")
    assert tenant.is_publisher
    assert tenant.group is not None


def test_a_taken_slug_is_said(house: House) -> None:
    answer = house.browser("operator").post("/admin/tenants/tenant/add/", {"name": "X", "slug": "acme"} | NO_MEMBERS)
    assert list(answer.context["adminform"].form.errors) == ["slug"]


def test_a_tenant_becomes_a_publisher_and_keeps_its_slug(house: House) -> None:
    sent = {"name": "Acme", "slug": "other", "is_publisher": "on"} | NO_MEMBERS
    house.browser("operator").post(f"/admin/tenants/tenant/{house.acme.pk}/change/", sent)
    house.acme.refresh_from_db()
    assert (house.acme.is_publisher, house.acme.slug) == (True, "acme")


def test_keys_are_revoked_and_never_shown(house: House) -> None:
    browser = house.browser("operator")
    page = browser.get(f"/admin/tenants/apikey/{house.key.pk}/change/").content.decode()
    assert house.key.prefix in page
    assert bytes(house.key.digest).hex() not in page
    browser.post("/admin/tenants/apikey/", {"action": "revoke", "_selected_action": [str(house.key.pk)]})
    house.key.refresh_from_db()
    assert house.key.revoked_at is not None


def test_who_may_edit_people_makes_nobody_an_operator(house: House) -> None:
    from django.contrib.auth.models import Permission  # noqa: PLC0415

    clerk = house.people["clerk"]
    clerk.user_permissions.add(*Permission.objects.filter(content_type__app_label="tenants"))
    browser = house.browser("clerk")
    powers = {"is_active": "on", "is_staff": "on", "is_superuser": "on", "display_name": "Clerk"}
    browser.post(f"/admin/tenants/user/{clerk.pk}/change/", powers)
    clerk.refresh_from_db()
    assert (clerk.display_name, clerk.is_superuser) == ("Clerk", False)
    operator = house.people["operator"]
    assert browser.post(f"/admin/tenants/user/{operator.pk}/change/", {"display_name": "Gone"}).status_code == 403


@pytest.mark.parametrize("page", ["metering/hold/", "metering/ledgerentry/", "metering/quota/", "metering/spending/"])
def test_big_tables_are_never_counted(house: House, page: str) -> None:
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    with CaptureQueriesContext(connection) as captured:
        assert house.browser("operator").get(f"/admin/{page}").status_code == 200
    table = page.strip("/").replace("/", "_")
    assert not [query["sql"] for query in captured if "COUNT(" in query["sql"] and table in query["sql"]]


@pytest.mark.parametrize("term", ["acme", "no such thing", "'; --", "\x00"])
@pytest.mark.parametrize("page", ["tenants/user/", "catalog/mlmodel/", "metering/hold/", "inference/deployment/"])
def test_any_search_is_answered(house: House, page: str, term: str) -> None:
    assert house.browser("operator").get(f"/admin/{page}", {"q": term}).status_code == 200


def test_lists_take_as_many_queries_for_one_row_as_for_ten(house: House) -> None:
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    browser = house.browser("operator")

    def count(page: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(f"/admin/{page}").status_code == 200
        return len(captured)

    pages = [
        *("tenants/membership/", "tenants/apikey/", "catalog/modelversion/", "subscriptions/plan/"),
        *("metering/hold/", "metering/budget/", "metering/spending/"),
    ]
    few = {page: count(page) for page in pages for _warmed in range(2)}
    for _ in range(10):
        tenant = factories.tenant()
        factories.member(tenant)
        budget = Budget.objects.create(tenant=tenant, api_key=factories.api_key_row(tenant), amount=1, currency="USD")
        month = house.spending
        Spending.objects.create(budget=budget, period_start=month.period_start, period_end=month.period_end, limit=1)
        model = factories.model(house.openlab)
        factories.hold(tenant, factories.version(model))
        factories.plan(model)
    assert {page: count(page) for page in pages} == few


def test_a_hold_shows_the_terms_it_was_admitted_on(house: House) -> None:
    house.plan.unit, house.plan.overage_price = "SECOND", Decimal("0.25")
    house.plan.save()
    bought = factories.hold(
        house.acme, house.live, plan=house.plan, quota=house.quota, unit="SECOND", price=Decimal("0.5")
    )
    browser = house.browser("operator")

    sold = browser.get(f"/admin/metering/hold/{bought.pk}/change/").content.decode()
    own = browser.get(f"/admin/metering/hold/{house.hold.pk}/change/").content.decode()

    assert "Included: 1000 (Second of compute). Past them: 0.25 USD (Second of compute)." in sold
    assert "The publisher&#x27;s own model: no plan, no charge." in own


def test_the_operator_sees_what_a_tenant_may_spend_and_has_spent(house: House) -> None:
    browser = house.browser("operator")

    spent = browser.get(f"/admin/metering/spending/{house.spending.pk}/change/").content.decode()

    assert "25.000000000" in spent
    assert "Acme" in browser.get("/admin/metering/budget/").content.decode()
    assert "Acme" in browser.get("/admin/metering/spending/").content.decode()


def test_a_model_is_taken_down_for_a_reason_and_restored(house: House) -> None:
    browser, page = house.browser("operator"), f"/admin/catalog/mlmodel/{house.model.pk}"

    without = browser.post(f"{page}/take-down/", {"reason": " "})
    assert (without.status_code, "Say why" in without.content.decode()) == (422, True)
    assert browser.post(f"{page}/take-down/", {"reason": "It writes <b>ransom notes</b>."}).status_code == 302
    house.model.refresh_from_db()
    assert house.model.takedown_reason == "It writes <b>ransom notes</b>."
    assert "&lt;b&gt;ransom notes" in browser.get(f"{page}/change/").content.decode()
    event = ReleaseEvent.objects.get(kind="TAKEN_DOWN")
    assert event.user == house.people["operator"]

    assert browser.post(f"{page}/restore/").status_code == 302
    house.model.refresh_from_db()
    assert house.model.taken_down_at is None


def test_an_operator_who_may_only_look_takes_nothing_down(house: House) -> None:
    from django.contrib.auth.models import Permission  # noqa: PLC0415

    house.people["clerk"].user_permissions.add(Permission.objects.get(codename="view_mlmodel"))
    browser, page = house.browser("clerk"), f"/admin/catalog/mlmodel/{house.model.pk}"

    shown = browser.get(f"{page}/change/")
    assert (shown.status_code, "take-down" in shown.content.decode()) == (200, False)
    assert browser.post(f"{page}/take-down/", {"reason": "Why."}).status_code == 403
    house.model.refresh_from_db()
    assert house.model.taken_down_at is None


def test_an_application_is_approved_or_declined_for_a_reason(house: House) -> None:
    browser, page = house.browser("operator"), f"/admin/tenants/publisherapplication/{house.application.pk}"
    assert "&lt;b&gt;scanners" in browser.get(f"{page}/change/").content.decode()

    assert browser.post(f"{page}/decline/", {"reason": ""}).status_code == 422
    assert browser.post(f"{page}/approve/").status_code == 302
    house.acme.refresh_from_db()
    assert house.acme.is_publisher
    assert f"{page}/decline/" not in browser.get(f"{page}/change/").content.decode()
