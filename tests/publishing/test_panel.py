"""What a publisher does in the panel: forms that show errors at their field, buttons that ask first."""

from decimal import Decimal
from typing import Any

import pytest

from marketplace.catalog.models import MLModel, MLModelGroupObjectPermission, ModelVersionStatus
from marketplace.publishing.releases import promote_ready
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionStatus, Plan
from tests import factories
from tests.publishing.conftest import House

MODELS, VERSIONS = "/publish/catalog/mlmodel/", "/publish/catalog/modelversion/"
PLANS, GRANTS = "/publish/subscriptions/plan/", "/publish/catalog/mlmodelgroupobjectpermission/"

MODEL = {
    "name": "letters",
    "display_name": "Letters",
    "summary": "Reads a letter.",
    "task": "OCR",
    "tags": "cnn, vision",
    "license": "MIT",
    "visibility": "PUBLIC",
    "card": "# Letters",
}
PLAN = {
    "name": "Scale",
    "price": "49.90",
    "currency": "EUR",
    "included_units": "1000000",
    "overage_price": "",
    "requests_per_second": "100",
    "burst": "200",
    "unit": "CALL",
    "max_concurrency": "",
    "max_tokens_per_call": "",
}
# What the tables below a model's form send along.
TABLES = {f"{table}-{number}_FORMS": "0" for table in ("versions", "plans") for number in ("TOTAL", "INITIAL")}


def errors(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return {name: list(messages) for name, messages in found.items()}


def told(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


class TestModels:
    def test_add(self, house: House) -> None:
        answer = house.browser("developer").post(MODELS + "add/", MODEL)
        assert answer["Location"] == MODELS
        model = MLModel.objects.get(name="letters")
        assert (model.publisher, model.tags, model.task) == (house.openlab, ["cnn", "vision"], "OCR")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": "digits"}, "name"),
            ({"name": "Two Words"}, "name"),
            ({"display_name": ""}, "display_name"),
            ({"license": ""}, "license"),
            ({"tags": ",".join(map(str, range(21)))}, "tags"),
            ({"task": "COOKING"}, "task"),
        ],
    )
    def test_an_error_is_shown_at_its_field(self, house: House, change: dict[str, str], field: str) -> None:
        before = MLModel.objects.count()
        assert list(errors(house.browser("owner").post(MODELS + "add/", MODEL | change))) == [field]
        assert MLModel.objects.count() == before

    def test_change_all_but_the_name(self, house: House) -> None:
        page = f"{MODELS}{house.model.pk}/change/"
        answer = house.browser("owner").post(page, MODEL | TABLES | {"name": "other"})
        assert answer["Location"] == MODELS
        house.model.refresh_from_db()
        assert (house.model.name, house.model.display_name) == ("digits", "Letters")

    def test_another_publisher_changes_nothing(self, house: House) -> None:
        page = f"{MODELS}{house.model.pk}/change/"
        assert house.browser("other publisher").post(page, MODEL | TABLES)["Location"] == "/publish/"
        house.model.refresh_from_db()
        assert house.model.display_name == "Digits"

    def test_none_is_deleted(self, house: House) -> None:
        browser = house.browser("owner")
        assert browser.post(f"{MODELS}{house.model.pk}/delete/", {"post": "yes"}).status_code == 403
        browser.post(MODELS, {"action": "delete_selected", "_selected_action": [str(house.model.pk)], "post": "yes"})
        assert MLModel.objects.filter(pk=house.model.pk).exists()

    def test_roll_back(self, house: House) -> None:
        browser = house.browser("owner")
        browser.post(f"{VERSIONS}{house.version.pk}/release/")
        promote_ready([house.version.pk])
        answer = browser.post(f"{MODELS}{house.model.pk}/rollback/", follow=True)
        assert told(answer)[-1] == "The last release is undone."
        house.model.refresh_from_db()
        assert house.model.live_version == house.live

    def test_nothing_to_roll_back_to_is_said(self, house: House) -> None:
        answer = house.browser("owner").post(f"{MODELS}{house.model.pk}/rollback/", follow=True)
        assert told(answer) == ["No other version was live before: there is nothing to go back to."]


class TestVersions:
    def test_release_asks_first(self, house: House) -> None:
        page = f"{VERSIONS}{house.version.pk}/release/"
        assert "Release this version?" in house.browser("owner").get(page).content.decode()
        house.model.refresh_from_db()
        assert house.model.releasing_version is None

    def test_release(self, house: House) -> None:
        answer = house.browser("developer").post(f"{VERSIONS}{house.version.pk}/release/", follow=True)
        assert told(answer) == ["It is being released: it goes live once it is loaded and warm."]
        promote_ready([house.version.pk])
        house.version.refresh_from_db()
        assert house.version.status == ModelVersionStatus.LIVE

    def test_retire(self, house: House) -> None:
        house.browser("owner").post(f"{VERSIONS}{house.version.pk}/retire/")
        house.version.refresh_from_db()
        assert house.version.status == ModelVersionStatus.RETIRED

    def test_what_an_action_refuses_is_said(self, house: House) -> None:
        answer = house.browser("owner").post(f"{VERSIONS}{house.live.pk}/retire/", follow=True)
        assert told(answer) == ["This version is live: release another one first."]

    def test_buttons_follow_the_status(self, house: House) -> None:
        browser = house.browser("owner")
        shown = {
            version.status: [
                button.title for button in browser.get(f"{VERSIONS}{version.pk}/change/").context["controls"]
            ]
            for version in (house.live, house.version)
        }
        assert shown == {
            "LIVE": ["Add steps", "Describe", "Settings", "Deprecate"],
            "READY": ["Release", "Canary", "Shadow", "Add steps", "Describe", "Settings", "Deprecate", "Retire"],
        }

    def test_another_publisher_releases_nothing(self, house: House) -> None:
        browser = house.browser("other publisher")
        assert browser.post(f"{VERSIONS}{house.version.pk}/release/")["Location"] == "/publish/"
        house.model.refresh_from_db()
        assert house.model.releasing_version is None

    def test_billing_releases_nothing(self, house: House) -> None:
        assert house.browser("billing").post(f"{VERSIONS}{house.version.pk}/release/").status_code == 403
        house.model.refresh_from_db()
        assert house.model.releasing_version is None


class TestPlans:
    def test_add(self, house: House) -> None:
        answer = house.browser("owner").post(PLANS + "add/", PLAN | {"model": str(house.model.pk)})
        assert answer["Location"] == PLANS
        plan = Plan.objects.get(name="Scale")
        assert (plan.model, plan.price, plan.overage_price) == (house.model, Decimal("49.90"), None)
        assert (plan.unit, plan.max_concurrency) == ("CALL", None)

    def test_the_form_explains_what_is_counted_and_how_many_calls_may_run(self, house: House) -> None:
        page = house.browser("owner").get(PLANS + "add/").content.decode()
        assert "What is counted: calls, elements of the input tensors, seconds that the model takes, or tokens" in page
        assert "How many calls may run at the same time." in page

    def test_one_that_counts_seconds_and_lets_four_calls_run(self, house: House) -> None:
        terms = {"unit": "SECOND", "max_concurrency": "4", "overage_price": "0.25"}
        house.browser("owner").post(PLANS + "add/", PLAN | {"model": str(house.model.pk)} | terms)
        plan = Plan.objects.get(name="Scale")
        assert (plan.unit, plan.max_concurrency) == ("SECOND", 4)
        page = house.browser("owner").get(PLANS).content.decode()
        assert "1,000,000 seconds of compute" in page
        assert "0.25 EUR per second of compute" in page
        assert "100 calls a second, 200 at once, 4 running" in page

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": "Free"}, "name"),
            ({"price": "-1"}, "price"),
            ({"price": "NaN"}, "price"),
            ({"currency": "eur"}, "currency"),
            ({"included_units": "1e16"}, "included_units"),
            ({"burst": "0"}, "burst"),
            ({"unit": "WORD"}, "unit"),
            ({"unit": "TOKEN"}, "max_tokens_per_call"),
            ({"max_concurrency": "0"}, "max_concurrency"),
        ],
    )
    def test_an_error_is_shown_at_its_field(self, house: House, change: dict[str, str], field: str) -> None:
        answer = house.browser("owner").post(PLANS + "add/", PLAN | {"model": str(house.model.pk)} | change)
        assert list(errors(answer)) == [field]
        assert Plan.objects.count() == 1

    def test_another_publishers_model_cannot_be_chosen(self, house: House) -> None:
        answer = house.browser("other publisher").post(PLANS + "add/", PLAN | {"model": str(house.model.pk)})
        assert list(errors(answer)) == ["model"]

    def test_changed_terms_are_a_page_of_their_own_and_tell_who_waits(self, house: House) -> None:
        browser = house.browser("owner")
        answer = browser.post(f"{PLANS}{house.plan.pk}/change/", PLAN, follow=True)
        changed = Plan.objects.get(name="Scale")
        assert answer.redirect_chain == [(f"{PLANS}{changed.pk}/change/", 302)]
        assert told(answer) == [
            "The new terms are on offer. Who is subscribed keeps the old ones until its period ends, and is told."
        ]
        assert "1, each until its period ends" in answer.content.decode()
        assert [plan.pk for plan in browser.get(PLANS).context["cl"].result_list] == [changed.pk]
        house.subscription.refresh_from_db()
        assert house.subscription.plan == house.plan

    def test_a_change_is_taken_back_while_somebody_waits_for_it(self, house: House) -> None:
        browser = house.browser("owner")
        button = f"{PLANS}{{}}/take-back/"
        assert button.format(house.plan.pk) not in browser.get(f"{PLANS}{house.plan.pk}/change/").content.decode()
        browser.post(f"{PLANS}{house.plan.pk}/change/", PLAN)
        changed = Plan.objects.get(name="Scale")
        assert button.format(changed.pk) in browser.get(f"{PLANS}{changed.pk}/change/").content.decode()
        answer = browser.post(button.format(changed.pk), follow=True)
        changed.refresh_from_db()
        assert (changed.successor.name, changed.successor.terms) == ("Free", house.plan.terms)
        assert answer.redirect_chain == [(f"{PLANS}{changed.successor.pk}/change/", 302)]
        assert told(answer) == ["The terms of before are on offer again."]

    @pytest.mark.parametrize("change", [{}, {"unit": "ELEMENT"}, {"max_concurrency": "1"}])
    def test_a_name_is_no_term_and_what_is_counted_and_how_many_run_are(
        self, house: House, change: dict[str, str]
    ) -> None:
        as_it_is = {
            "name": "Renamed",
            "price": "0",
            "currency": "USD",
            "included_units": "1000",
            "requests_per_second": "1000",
            "burst": "1000",
        }
        house.browser("owner").post(f"{PLANS}{house.plan.pk}/change/", PLAN | as_it_is | change)
        house.plan.refresh_from_db()
        assert (house.plan.name, Plan.objects.count()) == (("Free", 2) if change else ("Renamed", 1))

    def test_hide_and_offer_again(self, house: House) -> None:
        browser = house.browser("owner")
        browser.post(f"{PLANS}{house.plan.pk}/hide/")
        house.plan.refresh_from_db()
        assert house.plan.hidden_at is not None
        browser.post(f"{PLANS}{house.plan.pk}/offer/")
        house.plan.refresh_from_db()
        assert house.plan.hidden_at is None


class TestRequests:
    def test_approving_subscribes(self, house: House) -> None:
        ModelSubscription.objects.update(status=ModelSubscriptionStatus.CANCELLED)
        page = f"/publish/subscriptions/modelsubscriptionrequest/{house.request.pk}"
        browser = house.browser("developer")
        assert "For our scanner." in browser.get(f"{page}/change/").content.decode()
        assert browser.post(f"{page}/approve/")["Location"] == f"{page}/change/"
        assert ModelSubscription.objects.get().status == ModelSubscriptionStatus.ACTIVE
        assert f"{page}/decline/" not in browser.get(f"{page}/change/").content.decode()

    def test_declining_asks_why(self, house: House) -> None:
        page = f"/publish/subscriptions/modelsubscriptionrequest/{house.request.pk}/decline/"
        browser = house.browser("owner")
        assert "Say why" in browser.post(page, {"reason": ""}).content.decode()
        browser.post(page, {"reason": "Not for scanners."})
        house.request.refresh_from_db()
        assert (house.request.status, house.request.reason) == ("DECLINED", "Not for scanners.")


class TestSubscribers:
    def test_shows_what_each_used_this_month(self, house: House) -> None:
        house.quota.settled = Decimal("2.5")
        house.quota.save()
        page = house.browser("owner").get("/publish/subscriptions/modelsubscription/").content.decode()
        assert "Acme" in page
        assert "2.5 calls" in page


class TestGrants:
    def test_give_access(self, house: House) -> None:
        globex = factories.tenant("globex")
        answer = house.browser("owner").post(
            GRANTS + "add/", {"tenant": "globex", "content_object": str(house.private.pk)}
        )
        assert answer["Location"] == GRANTS
        assert MLModel.objects.visible_to(factories.principal(globex)).filter(pk=house.private.pk).exists()

    @pytest.mark.parametrize("slug", ["nobody", "openlab", ""])
    def test_to_whom_not(self, house: House, slug: str) -> None:
        sent = {"tenant": slug, "content_object": str(house.private.pk)}
        assert list(errors(house.browser("owner").post(GRANTS + "add/", sent))) == ["tenant"]

    def test_a_public_model_needs_none(self, house: House) -> None:
        sent = {"tenant": "otherlab", "content_object": str(house.model.pk)}
        assert list(errors(house.browser("owner").post(GRANTS + "add/", sent))) == ["content_object"]

    def test_withdraw_suspends_the_subscription(self, house: House) -> None:
        subscription = factories.subscription(house.acme, factories.plan(house.private))
        house.browser("owner").post(f"{GRANTS}{house.grant.pk}/delete/", {"post": "yes"})
        subscription.refresh_from_db()
        assert subscription.status == ModelSubscriptionStatus.SUSPENDED
        assert not MLModelGroupObjectPermission.objects.exists()

    def test_withdraw_several(self, house: House) -> None:
        sent = {"action": "delete_selected", "_selected_action": [str(house.grant.pk)], "post": "yes"}
        house.browser("owner").post(GRANTS, sent)
        assert not MLModelGroupObjectPermission.objects.exists()

    def test_another_publisher_withdraws_nothing(self, house: House) -> None:
        sent = {"action": "delete_selected", "_selected_action": [str(house.grant.pk)], "post": "yes"}
        browser = house.browser("other publisher")
        browser.post(GRANTS, sent)
        browser.post(f"{GRANTS}{house.grant.pk}/delete/", {"post": "yes"})
        assert MLModelGroupObjectPermission.objects.filter(pk=house.grant.pk).exists()


@pytest.mark.parametrize(
    "path", [MODELS + "add/", VERSIONS + "{version}/release/", PLANS + "{plan}/hide/", "/publish/logout/"]
)
def test_a_form_from_elsewhere_is_refused(house: House, path: str) -> None:
    browser = house.browser("owner", enforce_csrf_checks=True)
    path = path.format(version=house.version.pk, plan=house.plan.pk)
    assert browser.post(path, MODEL).status_code == 403


@pytest.mark.parametrize("query", ["?status__exact=%00", "?model=%00"])
def test_a_list_is_filtered_by_what_it_offers(house: House, query: str) -> None:
    for who, page in (("owner", "/publish/subscriptions/dailyusage/"), ("operator", "/admin/catalog/modelversion/")):
        assert house.browser(who).get(page + query)["Location"] == f"{page}?e=1"


def test_the_overview_counts_one_s_own(house: House) -> None:
    counts = {"models": 2, "live": 1, "subscribers": 1, "requests": 1}
    assert house.browser("owner").get("/publish/").context["counts"] == counts
    page = house.browser("other publisher").get("/publish/")
    assert page.context["counts"] == dict.fromkeys(counts, 0)
    assert "Put up your first model" in page.content.decode()


def test_a_member_of_several_tenants_acts_for_the_chosen_one(house: House) -> None:
    person = house.people["consumer"]
    factories.Membership.objects.create(tenant=house.openlab, user=person, role="OWNER")
    browser = house.browser("consumer")
    assert browser.get("/publish/").status_code == 403
    session = browser.session
    session["tenant"] = str(house.openlab.pk)
    session.save()
    assert browser.get("/publish/").status_code == 200


@pytest.mark.parametrize("page", [MODELS, VERSIONS, PLANS, "/publish/subscriptions/modelsubscription/", GRANTS])
def test_a_list_takes_as_many_queries_for_one_row_as_for_ten(
    house: House, page: str, django_assert_num_queries: Any
) -> None:
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    browser = house.browser("owner")
    browser.get(page)
    with CaptureQueriesContext(connection) as few:
        browser.get(page)
    for _ in range(10):
        model = factories.model(house.openlab, visibility="PRIVATE")
        factories.version(model)
        tenant = factories.tenant()
        factories.subscription(tenant, factories.plan(model))
        factories.grant(model, tenant)
    with django_assert_num_queries(len(few)):
        browser.get(page)
