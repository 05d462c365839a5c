"""A publisher, its people and its things; another publisher; a consumer; the operator."""

from datetime import date
from typing import Any

import pytest
from django.test import Client

from inference.models import Deployment, UsageReconciliation
from marketplace.access import TenantRole
from marketplace.catalog.models import MLModelGroupObjectPermission, ModelVersionStatus, ReleaseEvent, Visibility
from marketplace.metering.models import Budget, LedgerEntry, Quota, Spending
from marketplace.subscriptions.models import DailyUsage, ModelSubscriptionRequest
from marketplace.tenants.models import PublisherApplication
from tests import factories


@pytest.fixture(autouse=True)
def _static_files_that_nobody_has_collected(settings: Any) -> None:
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


class House:
    """Everything that the two consoles show, once. `browser(name)` is the signed-in client of one of `people`."""

    def __init__(self) -> None:
        self.openlab = factories.tenant("openlab", is_publisher=True)
        self.otherlab = factories.tenant("otherlab", is_publisher=True)
        self.acme = factories.tenant("acme")
        self.model = factories.model(self.openlab, "digits")
        self.live = factories.version(self.model)
        self.version = factories.version(self.model, status=ModelVersionStatus.READY, released_at=None)
        self.plan = factories.plan(self.model, name="Free")
        self.subscription = factories.subscription(self.acme, self.plan)
        self.event = ReleaseEvent.objects.create(model=self.model, version=self.live, kind="RELEASED")
        self.request = ModelSubscriptionRequest.objects.create(
            tenant=self.acme, model=self.model, plan=self.plan, message="For our scanner."
        )
        self.day = DailyUsage.objects.create(
            **{"model": self.model, "plan": self.plan, "tenant": self.acme, "day": date(2026, 3, 2)},
            **{"currency": "USD", "calls": 3, "units": 3, "amount": 0},
        )
        self.private = factories.model(self.openlab, "secret", visibility=Visibility.PRIVATE)
        factories.grant(self.private, self.acme)
        self.grant = MLModelGroupObjectPermission.objects.get()
        self.hold = factories.hold(self.acme, self.live)
        now = self.hold.created_at
        self.quota = Quota.objects.create(
            model_subscription=self.subscription, period_start=now, period_end=now.replace(year=now.year + 1), limit=10
        )
        self.entry = LedgerEntry.objects.create(
            hold=self.hold,
            kind="charge",
            account="consumer",
            tenant=self.acme,
            units=-1,
            amount=0,
            currency="USD",
            created_at=now,
        )
        self.budget = Budget.objects.create(tenant=self.acme, amount=25, currency="USD")
        self.spending = Spending.objects.create(
            budget=self.budget, period_start=now, period_end=now.replace(year=now.year + 1), limit=25, settled=4, held=1
        )
        self.deployment = Deployment.objects.create(version=self.live, endpoint="127.0.0.1:8001")
        self.usage = UsageReconciliation.objects.create(version=self.live, since=now)
        self.key = factories.api_key_row(self.acme)
        self.application = PublisherApplication.objects.create(tenant=self.acme, about="We make <b>scanners</b>.")
        self.people = {
            "owner": factories.member(self.openlab, TenantRole.OWNER),
            "developer": factories.member(self.openlab, TenantRole.DEVELOPER),
            "billing": factories.member(self.openlab, TenantRole.BILLING),
            "viewer": factories.member(self.openlab, TenantRole.VIEWER),
            "other publisher": factories.member(self.otherlab, TenantRole.OWNER),
            "consumer": factories.member(self.acme, TenantRole.OWNER),
            "homeless": factories.user(),
            "operator": factories.user(is_staff=True, is_superuser=True),
            "clerk": factories.user(is_staff=True),
        }

    def browser(self, name: str, **options: Any) -> Client:
        client = Client(**options)
        if name != "anonymous":
            client.force_login(self.people[name])
        return client


@pytest.fixture
def house(db: None) -> House:
    return House()
