"""Who may open which page of the publisher's panel and of the operator's admin. A page without a row fails here."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.urls import URLPattern, URLResolver

from marketplace.publishing.panel import publisher_site
from tests.publishing.conftest import House

NOBODY = "01900000-0000-7000-8000-000000000000"


@dataclass
class Pages:
    """Of one registered model: which object to open, and what GET answers to who is let in."""

    subject: str
    add: int = 403
    delete: int = 403
    buttons: dict[str, int] = field(default_factory=dict)

    def expected(self) -> dict[str, int]:
        return {
            "changelist": 200,
            "change": 200,
            "history": 200,
            "add": self.add,
            "delete": self.delete,
            **self.buttons,
        }


# What both sites have; autocomplete answers 403 to a request that does not say of which field.
SITE_WIDE = {"index": 200, "login": 302, "logout": 405, "search": 200, "autocomplete": 403, "jsi18n": 200}

VERSION_BUTTONS = (
    "release",
    "promote",
    "canary",
    "shadow",
    "steps",
    "describe",
    "configure",
    "deprecate",
    "retire",
    "report",
)

PANEL = {
    "catalog.mlmodel": Pages("model", add=200, buttons={"upload": 200, "rollback": 200}),
    "catalog.modelversion": Pages("version", buttons=dict.fromkeys(VERSION_BUTTONS, 200)),
    "catalog.mlmodelgroupobjectpermission": Pages("grant", add=200, delete=200),
    "subscriptions.plan": Pages("plan", add=200, buttons={"take_back": 200, "hide": 200, "offer": 200}),
    "subscriptions.modelsubscription": Pages("subscription"),
    "subscriptions.modelsubscriptionrequest": Pages("request", buttons={"approve": 200, "decline": 200}),
    "subscriptions.dailyusage": Pages("day"),
}

ADMIN = {
    "tenants.tenant": Pages("acme", add=200),
    "tenants.user": Pages("someone"),
    "tenants.membership": Pages("membership", add=200, delete=200),
    "tenants.apikey": Pages("key"),
    "tenants.publisherapplication": Pages("application", buttons={"approve": 200, "decline": 200}),
    "catalog.mlmodel": Pages("model", buttons={"take_down": 200, "restore": 200}),
    "catalog.releaseevent": Pages("event"),
    "catalog.modelversion": Pages("version"),
    "subscriptions.plan": Pages("plan"),
    "subscriptions.modelsubscription": Pages("subscription"),
    "subscriptions.modelsubscriptionrequest": Pages("request"),
    "metering.quota": Pages("quota"),
    "metering.budget": Pages("budget"),
    "metering.spending": Pages("spending"),
    "metering.hold": Pages("hold"),
    "metering.ledgerentry": Pages("entry"),
    "inference.deployment": Pages("deployment"),
    "inference.usagereconciliation": Pages("usage"),
}

SITES: dict[str, tuple[AdminSite, dict[str, Pages]]] = {
    "/publish/": (publisher_site, PANEL),
    "/admin/": (admin.site, ADMIN),
}


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield pattern.name or "", route


def table(root: str, house: House, key: str | None = None) -> dict[str, int]:
    """Address: status for who is let in. Fails on a page that no row covers. `key` replaces each object's own."""
    site, rows = SITES[root]
    subjects = vars(house) | {"someone": house.people["consumer"]}
    subjects["membership"] = subjects["someone"].memberships.get()
    pages: dict[str, int] = {}
    for name, route in routes(site.urls[0]):
        if route.startswith("^"):
            pages |= {f"{root}{label}/": 200 for label in {model.split(".")[0] for model in rows}}
        elif route == "(?P<url>.*)$":
            pages[f"{root}nothing/here/"] = 404
        elif name in SITE_WIDE:
            pages[root + route] = SITE_WIDE[name]
        else:
            model = ".".join(route.split("/")[:2])
            assert model in rows, f"{route} has no row here"
            path = root + route.replace("<path:object_id>", key or str(subjects[rows[model].subject].pk))
            page = name.removeprefix(model.replace(".", "_") + "_")
            # The one without a name sends old addresses to the page of the object.
            pages[path] = rows[model].expected()[page] if name else 302
    return pages


@pytest.mark.parametrize("root", SITES)
def test_every_registered_model_has_a_row_and_every_row_a_model(root: str) -> None:
    site, rows = SITES[root]
    assert {model._meta.label_lower for model in site._registry} == set(rows)


@pytest.mark.parametrize(("root", "who"), [("/publish/", "owner"), ("/publish/", "developer"), ("/admin/", "operator")])
def test_who_is_let_in(house: House, root: str, who: str) -> None:
    browser = house.browser(who)
    pages = table(root, house)
    assert {path: browser.get(path).status_code for path in pages} == pages


def test_who_looks_after_the_money_sees_usage_and_revenue_alone(house: House) -> None:
    browser = house.browser("billing")
    figures = "/publish/subscriptions/dailyusage/"
    pages = table("/publish/", house)
    for path, status in pages.items():
        if path.count("/") > 3 and not path.startswith(figures):
            pages[path] = status if status in (302, 404) else 403
    pages |= {"/publish/": 302, "/publish/catalog/": 404}
    assert {path: browser.get(path).status_code for path in pages} == pages
    assert browser.get("/publish/")["Location"] == figures


@pytest.mark.parametrize(
    ("root", "who"),
    [
        *(("/publish/", who) for who in ("viewer", "consumer", "homeless", "operator", "clerk")),
        *(("/admin/", who) for who in ("owner", "developer", "consumer", "homeless")),
    ],
)
def test_who_is_refused(house: House, root: str, who: str) -> None:
    browser = house.browser(who)
    assert {path: browser.get(path).status_code for path in table(root, house)} == dict.fromkeys(
        table(root, house), 403
    )


@pytest.mark.parametrize("root", SITES)
def test_nobody_is_sent_to_the_site_s_own_sign_in(house: House, root: str) -> None:
    browser = house.browser("anonymous")
    for path in table(root, house):
        answer = browser.get(path)
        wanted = root if path == f"{root}login/" else path
        assert (answer.status_code, answer["Location"]) == (302, f"/accounts/login/?next={wanted}"), path


def test_an_operator_without_permissions_sees_no_rows(house: House) -> None:
    browser = house.browser("clerk")
    for path, status in table("/admin/", house).items():
        if path.count("/") > 3 and status == 200:
            assert browser.get(path).status_code == 403, path


def test_a_foreign_object_answers_as_a_missing_one(house: House) -> None:
    browser = house.browser("other publisher")

    def answer(path: str, key: str) -> tuple[Any, ...]:
        response = browser.get(path)
        told = [str(message).replace(key, "KEY") for message in browser.get("/publish/").context["messages"]]
        return response.status_code, response.get("Location", "").replace(key, "KEY"), told

    for subject in (pages.subject for pages in PANEL.values()):
        key = str(getattr(house, subject).pk)
        missing = "999999999" if subject in ("grant", "day") else NOBODY
        for path in table("/publish/", house):
            if f"/{key}/" in path:
                foreign, none = answer(path, key), answer(path.replace(f"/{key}/", f"/{missing}/"), missing)
                assert foreign == none, path
                assert foreign[0] in (302, 403), path


def test_lists_show_only_one_s_own(house: House) -> None:
    for path in ("mlmodel/", "modelversion/", "mlmodelgroupobjectpermission/"):
        page = f"/publish/catalog/{path}"
        assert house.browser("owner").get(page).context["cl"].result_count > 0
        assert house.browser("other publisher").get(page).context["cl"].result_count == 0
    for path in ("plan/", "modelsubscription/", "modelsubscriptionrequest/", "dailyusage/"):
        page = f"/publish/subscriptions/{path}"
        assert house.browser("owner").get(page).context["cl"].result_count == 1
        assert house.browser("other publisher").get(page).context["cl"].result_count == 0


def test_choices_and_search_offer_only_one_s_own(house: House) -> None:
    browser = house.browser("other publisher")
    form = browser.get("/publish/subscriptions/plan/add/").context["adminform"].form
    assert not form.fields["model"].queryset.exists()
    form = browser.get("/publish/catalog/mlmodelgroupobjectpermission/add/").context["adminform"].form
    assert not form.fields["content_object"].queryset.exists()
    query = {"app_label": "catalog", "model_name": "modelversion", "field_name": "model", "term": "digits"}
    assert browser.get("/publish/autocomplete/", query).json()["results"] == []


def test_a_lookup_through_the_address_reaches_nobody_else(house: House) -> None:
    for lookup in ("publisher__memberships__user__password__startswith", "publisher__slug", "grants__group__name"):
        assert house.browser("owner").get("/publish/catalog/mlmodel/", {lookup: "a"}).status_code == 400


def test_who_leaves_the_tenant_is_out_with_the_next_request(house: House) -> None:
    browser = house.browser("owner")
    assert browser.get("/publish/").status_code == 200
    house.people["owner"].memberships.all().delete()
    assert browser.get("/publish/").status_code == 403


def test_signing_out_takes_a_post(house: House) -> None:
    browser = house.browser("owner")
    answer = browser.post("/publish/logout/")
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert browser.get("/publish/").status_code == 302


@pytest.mark.parametrize(("root", "who"), [("/publish/", "owner"), ("/admin/", "operator")])
def test_only_the_consoles_loosen_the_content_security_policy(house: House, root: str, who: str) -> None:
    browser = house.browser(who)
    policy = browser.get(root)["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval';" in policy + ";"
    assert "unsafe" not in browser.get("/accounts/password/change/")["Content-Security-Policy"]
