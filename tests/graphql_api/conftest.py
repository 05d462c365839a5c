"""A small marketplace: openlab publishes, acme has subscribed, globex has not."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from inference.models import Deployment
from marketplace.access import TenantRole
from marketplace.catalog.models import Visibility
from marketplace.metering.models import Budget
from marketplace.subscriptions.models import DailyUsage, ModelSubscriptionRequest
from marketplace.tenants.models import ApiKey, PublisherApplication
from tests import factories
from tests.graphql_api.caller import Caller


@pytest.fixture(autouse=True)
def _static_files_that_nobody_has_collected(settings: Any) -> None:
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


@dataclass
class Marketplace:
    """`owner` and `colleague` (a viewer) are of acme, `stranger` is globex's owner, `publisher` openlab's."""

    def __init__(self) -> None:
        self.openlab = factories.tenant("openlab", is_publisher=True)
        self.acme = factories.tenant("acme")
        self.globex = factories.tenant("globex")
        self.model = factories.model(self.openlab, "digits", task="IMAGE_CLASSIFICATION", tags=["mnist", "vision"])
        self.version = factories.version(self.model, report={"steps": [], "facts": {}})
        self.draft = factories.version(self.model, status="DRAFT")
        self.ready = factories.version(self.model, status="READY", released_at=None)
        # At a server that is no more, so that nobody calls it there.
        self.deployment = Deployment.objects.create(version=self.version, endpoint="192.0.2.1:8001", status="FAILED")
        self.plan = factories.plan(self.model, name="Scale")
        self.secret = factories.model(self.openlab, "secret", visibility=Visibility.PRIVATE)
        self.secret_version = factories.version(self.secret)
        self.secret_plan = factories.plan(self.secret)
        factories.grant(self.secret, self.acme)
        self.subscription = factories.subscription(self.acme, self.plan)
        self.request = ModelSubscriptionRequest.objects.create(
            tenant=self.acme, model=self.secret, plan=self.secret_plan, message="For our scanner."
        )
        DailyUsage.objects.create(
            **{"model": self.model, "plan": self.plan, "tenant": self.acme, "day": date(2026, 3, 2)},
            **{"currency": "USD", "calls": 3, "units": 3, "amount": Decimal("0.25")},
        )
        PublisherApplication.objects.create(tenant=self.acme, about="We make scanners.")
        self.invocation = factories.hold(self.acme, self.version)
        self.upload = factories.upload(self.openlab)
        self.key = factories.api_key_row(self.acme, name="production")
        self.cap = Budget.objects.create(tenant=self.acme, amount=10, currency="USD")
        self.budget = Budget.objects.create(tenant=self.acme, api_key=self.key, amount=1, currency="USD")
        self.alice = factories.member(self.acme, TenantRole.OWNER)
        self.owner = Caller(user=self.alice)
        self.colleague = Caller(user=factories.member(self.acme, TenantRole.VIEWER))
        self.stranger = Caller(user=factories.member(self.globex, TenantRole.OWNER))
        self.publisher = Caller(user=factories.member(self.openlab, TenantRole.OWNER))
        self.anonymous = Caller()
        self.revoked = Caller(key=factories.api_key(self.acme, name="leaked"))
        ApiKey.objects.filter(name="leaked").update(revoked_at=timezone.now())


@pytest.fixture
def marketplace(db: None) -> Marketplace:
    return Marketplace()
