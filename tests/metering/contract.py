"""A consumer subscribed to one model of somebody else's, and its calls."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from marketplace.access import Principal, TenantRole
from marketplace.metering.admission import admit
from marketplace.metering.models import Quota
from tests import factories

ONE = Decimal(1)


class Contract:
    def __init__(self, **plan: Any) -> None:
        self.publisher = factories.tenant("openlab", is_publisher=True)
        self.consumer = factories.tenant("acme")
        self.version = factories.version(factories.model(self.publisher, "add"))
        self.plan = factories.plan(
            self.version.model, **({"included_units": 10, "requests_per_second": 1000, "burst": 1000} | plan)
        )
        self.subscription = factories.subscription(self.consumer, self.plan)
        self.principal = Principal(
            tenant_id=self.consumer.pk, group_id=self.consumer.group_id, role=TenantRole.DEVELOPER
        )

    async def admit(self, **arguments: Any) -> UUID:
        arguments = {"version_id": self.version.pk, "most_seconds": 10, "lease": 60} | arguments
        return (await admit(self.principal, **arguments)).hold_id

    async def quota(self) -> Quota:
        return await Quota.objects.aget(model_subscription=self.subscription)


async def contract(**plan: Any) -> Contract:
    return await sync_to_async(Contract)(**plan)
