"""How a tenant becomes a publisher."""

from datetime import datetime

import strawberry
import strawberry_django
from django.db.models import QuerySet

from marketplace.tenants import applications
from marketplace.tenants import models as accounts
from marketplace.tenants.models import ApplicationStatus

from .context import Info
from .errors import Problem
from .mutation import expected_failures

strawberry.enum(ApplicationStatus, name="PublisherApplicationStatus")


@strawberry_django.type(
    accounts.PublisherApplication, description="A tenant's wish to publish models, which the operator reviews."
)
class PublisherApplication:
    status: ApplicationStatus
    about: str
    website: str
    reason: str = strawberry_django.field(description="What the operator says to it.")
    created_at: datetime
    decided_at: datetime | None


@strawberry.input
class BecomePublisherInput:
    about: str = strawberry.field(description="Who you are and what you want to publish: 1 to 2,000 characters.")
    website: str = strawberry.field(default="", description="An http(s) address, or nothing.")


@strawberry.type
class BecomePublisherPayload:
    row: strawberry.Private["QuerySet[accounts.PublisherApplication] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=PublisherApplication | None)
    def publisher_application(self) -> "QuerySet[accounts.PublisherApplication] | None":
        return self.row


@strawberry.type
class ReviewsMutation:
    @strawberry.mutation(
        description="Asks the operator, for the tenant acted for. Asking again while nobody has decided changes what "
        "is said. By owners and administrators."
    )
    @expected_failures(BecomePublisherPayload)
    def become_publisher(self, info: Info, input: BecomePublisherInput) -> BecomePublisherPayload:
        application = applications.become_publisher(info.context.principal, about=input.about, website=input.website)
        return BecomePublisherPayload(row=accounts.PublisherApplication.objects.filter(pk=application.pk))
