"""A model's page: what it is, what it costs, how to call it; subscribing, changing plan and cancelling."""

import json
import re
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.test import Client

from graphql_api.nodes import global_id
from marketplace.access import TenantRole
from marketplace.metering.models import Quota
from marketplace.subscriptions.models import ModelSubscription, ModelSubscriptionRequest
from tests import factories
from tests.frontend.conftest import Marketplace, words

URL = "/models/openlab/digits/"


def plan_id(response: Any, name: str) -> str:
    (found,) = re.findall(rf'name="plan" value="([^"]+)">\s*\w+ to {name}<', response.content.decode())
    return str(found)


def subscribe(browser: Client, plan: str) -> Any:
    return browser.post(URL, {"form": "subscribe", "model": "openlab/digits", "plan": plan}, follow=True)


def test_the_page_tells_what_there_is_to_know(marketplace: Marketplace) -> None:
    marketplace.model.card = "# Digits\n\nMeasured at **98.95 %**. <script>alert(1)</script>"
    marketplace.model.save()

    response = marketplace.anonymous.client.get(URL)

    page = words(response)
    assert "Digits What digits does. openlab/digits" in page
    assert "version 1" in page
    assert "Measured at 98.95 %" in page
    assert "v1 Live" in page
    assert "Scale Free 1,000 calls a month 1,000 calls a second then refused until the next month" in page
    assert "<script>alert" not in response.content.decode()


@pytest.mark.parametrize(
    ("unit", "included", "overage"),
    [
        ("CALL", "1,000 calls a month", "then $0.25 per call"),
        ("ELEMENT", "1,000 elements of the input a month", "then $0.25 per element of the input"),
        ("SECOND", "1,000 seconds of compute a month", "then $0.25 per second of compute"),
    ],
)
def test_a_plan_says_what_it_counts_and_how_many_calls_may_run(
    marketplace: Marketplace, unit: str, included: str, overage: str
) -> None:
    factories.plan(marketplace.model, unit=unit, overage_price=Decimal("0.25"), max_concurrency=4)

    page = words(marketplace.anonymous.client.get(URL))

    assert f"{included} 1,000 calls a second, 4 at the same time {overage}" in page


@pytest.mark.parametrize(
    ("who", "offered"),
    [
        ("owner", "Your subscription Scale"),
        ("colleague", "Your subscription Scale"),
        ("stranger", "Subscribe to Scale"),
        ("publisher", "Your own model You call it without a subscription"),
        ("anonymous", "Sign in to subscribe"),
    ],
)
def test_the_plans_fit_who_looks(marketplace: Marketplace, who: str, offered: str) -> None:
    assert offered in words(getattr(marketplace, who).client.get(URL))


@pytest.mark.parametrize("role", [TenantRole.DEVELOPER, TenantRole.VIEWER])
def test_whoever_may_not_subscribe_is_told_who_may(marketplace: Marketplace, role: TenantRole) -> None:
    browser = Client()
    browser.force_login(factories.member(marketplace.globex, role))

    page = words(browser.get(URL))

    assert "An owner or administrator of Globex can subscribe." in page
    assert "Subscribe to" not in page


def test_subscribing(marketplace: Marketplace) -> None:
    browser = marketplace.stranger.client

    response = subscribe(browser, plan_id(browser.get(URL), "Scale"))

    assert response.redirect_chain == [(URL, 302)]
    assert "Subscribed. The plan is active from now on." in words(response)
    assert "Your subscription Scale" in words(response)
    assert ModelSubscription.objects.get(tenant=marketplace.globex).plan == marketplace.plan


def test_changing_the_plan(marketplace: Marketplace) -> None:
    factories.plan(marketplace.model, name="Tiny", included_units=Decimal(5))
    browser = marketplace.owner.client

    response = subscribe(browser, plan_id(browser.get(URL), "Tiny"))

    assert "Your subscription Tiny" in words(response)
    assert "Limit 5" in words(response)


def test_cancelling(marketplace: Marketplace) -> None:
    browser = marketplace.owner.client
    (subscription,) = re.findall(r'name="modelSubscription" value="([^"]+)"', browser.get(URL).content.decode())

    response = browser.post(URL, {"form": "cancel", "modelSubscription": subscription}, follow=True)

    assert "Cancelled. Calls are refused from now on." in words(response)
    assert "Subscribe to Scale" in words(response)
    marketplace.subscription.refresh_from_db()
    assert marketplace.subscription.status == "CANCELLED"


def test_another_tenants_subscription_cannot_be_cancelled(marketplace: Marketplace) -> None:
    page = marketplace.owner.client.get(URL).content.decode()
    (subscription,) = re.findall(r'name="modelSubscription" value="([^"]+)"', page)

    response = marketplace.stranger.client.post(URL, {"form": "cancel", "modelSubscription": subscription})

    assert response.status_code == 422
    assert "There is no such object, or it is not yours to see." in words(response)
    marketplace.subscription.refresh_from_db()
    assert marketplace.subscription.status == "ACTIVE"


def test_a_role_that_may_not_is_refused_and_nothing_changes(marketplace: Marketplace) -> None:
    plan = plan_id(marketplace.stranger.client.get(URL), "Scale")
    browser = Client()
    browser.force_login(factories.member(marketplace.globex, TenantRole.VIEWER))

    response = subscribe(browser, plan)

    assert response.status_code == 422
    assert "Your role may not subscribe and cancel here." in words(response)
    assert not ModelSubscription.objects.filter(tenant=marketplace.globex).exists()


@pytest.mark.parametrize("plan", ["", "forged", "\0"])
def test_a_forged_plan_is_refused(marketplace: Marketplace, plan: str) -> None:
    response = subscribe(marketplace.stranger.client, plan)

    assert response.status_code in (400, 422)
    assert not ModelSubscription.objects.filter(tenant=marketplace.globex).exists()


def test_a_visitor_who_posts_is_asked_to_sign_in(marketplace: Marketplace) -> None:
    response = marketplace.anonymous.client.post(URL, {"form": "subscribe", "model": "openlab/digits", "plan": "x"})

    assert response.status_code == 302
    assert response.headers["Location"] == f"/accounts/login/?next={URL}"


def test_a_form_from_another_site_is_refused(marketplace: Marketplace) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.cookies = marketplace.owner.client.cookies

    response = browser.post(URL, {"form": "cancel", "modelSubscription": "x"})

    assert response.status_code == 403
    assert "This page was open too long" in words(response)


def test_a_form_that_is_not_there(marketplace: Marketplace) -> None:
    response = marketplace.owner.client.post(URL, {"form": "revoke"})

    assert response.status_code == 400
    assert "This request makes no sense" in words(response)


def test_the_meter_shows_what_is_settled_and_held(marketplace: Marketplace) -> None:
    contract = marketplace.subscription
    Quota.objects.create(
        model_subscription=contract,
        period_start=contract.created_at,
        period_end=contract.created_at.replace(year=contract.created_at.year + 1),
        limit=1000,
        settled=250,
        held=2,
    )

    response = marketplace.owner.client.get(URL)

    assert "Used 250 In flight 2 Left 748 Limit 1,000 calls Starts anew" in words(response)
    assert '<rect class="settled" width="25.000"' in response.content.decode()


def test_a_plan_with_a_price_past_its_units_has_no_limit_to_show(marketplace: Marketplace) -> None:
    marketplace.plan.overage_price = Decimal("0.002")
    marketplace.plan.save()

    page = words(marketplace.owner.client.get(URL))

    assert "Used 0 In flight 0 Included 1,000 calls Past what is included: $0.002 per call." in page
    assert "then $0.002 per call" in page


@pytest.mark.parametrize(
    ("given", "printed"), [("", "testserver:8081"), ("grpcs://models.example:443", "models.example:443")]
)
def test_code_samples_name_this_site_and_this_model(
    marketplace: Marketplace, settings: Any, given: str, printed: str
) -> None:
    settings.GRPC_PORT, settings.PUBLIC_GRPC_URL = 8081, given
    for tensor, value in zip(marketplace.version.tensors.filter(direction="INPUT"), (1.5, 2.25), strict=True):
        tensor.example, tensor.example_shape = [value], [1]
        tensor.save()

    page = marketplace.anonymous.client.get(URL).content.decode()

    samples = dict(re.findall(r'<code id="code-([\w-]+)">(.*?)</code>', page, re.DOTALL))
    addresses = {
        "graphql-curl": "http://testserver/graphql",
        "graphql-python": "http://testserver/graphql",
        "graphql-javascript": "http://testserver/graphql",
        "rest-curl": "http://testserver/v2/models/openlab/digits/infer",
        "rest-python": 'InferenceServerClient("testserver")',
        "grpc-python": f'InferenceServerClient("{printed}"',
    }
    assert samples.keys() == addresses.keys()
    for slug, code in samples.items():
        assert addresses[slug] in unescape(code)
        assert "openlab/digits" in code
        assert "MARKETPLACE_API_KEY" in code
        assert "2.25" in code


def test_without_examples_there_are_no_samples(marketplace: Marketplace) -> None:
    assert "Call it from code" not in words(marketplace.anonymous.client.get(URL))


def test_the_playground_knows_the_signature(marketplace: Marketplace) -> None:
    page = marketplace.owner.client.get(URL).content.decode()

    (found,) = re.findall(r'<script id="playground-model" type="application/json">(.*?)</script>', page, re.DOTALL)
    described = json.loads(found)
    assert described["model"] == "openlab/digits"
    (version,) = described["versions"]
    assert [tensor["name"] for tensor in version["inputs"]] == ["A", "B"]
    assert version["outputs"][0]["shape"] == [-1]


def test_a_publisher_sees_its_drafts_and_others_do_not(marketplace: Marketplace) -> None:
    assert "v2 Draft" in words(marketplace.publisher.client.get(URL))
    assert "v2" not in words(marketplace.owner.client.get(URL))


def test_a_plan_on_request_is_asked_for_and_the_page_says_how_it_stands(marketplace: Marketplace) -> None:
    plan = factories.plan(marketplace.model, name="Lab", requires_approval=True)
    browser, page = marketplace.owner.client, "/models/openlab/digits/"
    assert "Ask for Lab" in words(browser.get(page))

    sent = {"form": "ask", "model": "openlab/digits", "plan": global_id("Plan", plan.pk), "message": "A <b>scan</b>."}
    said = words(browser.post(page, sent, follow=True))
    assert "Asked. The publisher decides." in said
    assert "You have asked for Lab. Its publisher has not decided yet" in said
    request = ModelSubscriptionRequest.objects.get(message="A <b>scan</b>.")

    browser.post(
        page, {"form": "withdraw", "modelSubscriptionRequest": global_id("ModelSubscriptionRequest", request.pk)}
    )
    assert "Your request" not in words(browser.get(page))

    ModelSubscriptionRequest.objects.filter(pk=request.pk).update(status="DECLINED", reason="Not for scanners.")
    assert "declined your request for Lab: Not for scanners." in words(browser.get(page))
