"""What publishers write: models, plans, and which version is live."""

from decimal import Decimal

import strawberry
import strawberry_django
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from marketplace.catalog import models as catalog
from marketplace.catalog.models import ModelTask, Visibility
from marketplace.errors import ValidationProblem
from marketplace.publishing import entries, plans, releases
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions.models import MeteredUnit

from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import primary_key
from .payloads import ModelPayload, ModelVersionPayload
from .subscriptions import Plan


@strawberry.input
class CreateModelInput:
    name: str = strawberry.field(description="The second half of publisher/name; it never changes.")
    display_name: str
    summary: str = strawberry.field(description="One sentence: what it does, for whom.")
    card: str = strawberry.field(default="", description="Markdown: data, accuracy, limits.")
    task: ModelTask = ModelTask.OTHER
    tags: list[str] = strawberry.field(default_factory=list)
    license: str = strawberry.field(description="An SPDX identifier, as in Apache-2.0.")
    visibility: Visibility = Visibility.PRIVATE


@strawberry.input
class MoneyInput:
    amount: Decimal
    currency: str = strawberry.field(default="USD", description="ISO 4217.")


@strawberry.input
class CreatePlanInput:
    model: str = strawberry.field(description="publisher/name")
    name: str
    price: MoneyInput = strawberry.field(description="Per month.")
    included_units: Decimal = strawberry.field(description="Per month.")
    overage_price: MoneyInput | None = strawberry.field(
        default=None, description="Per unit, in the currency of the price; null: calls past the quota are refused."
    )
    requests_per_second: int
    burst: int = strawberry.field(description="How many calls may come at once.")
    unit: MeteredUnit = MeteredUnit.CALL
    max_concurrency: int | None = strawberry.field(
        default=None, description="How many calls may run at the same time; null: as many as the rate lets through."
    )
    max_tokens_per_call: int | None = strawberry.field(
        default=None, description="Required of a plan by token: as many are set aside while a call runs."
    )
    requires_approval: bool = strawberry.field(
        default=False, description="Tenants ask for it, and the publisher decides."
    )


@strawberry.input
class ReleaseModelVersionInput:
    model_version: strawberry.ID


@strawberry.input
class RollbackModelInput:
    model: str = strawberry.field(description="publisher/name")


@strawberry.type
class CreateModelPayload(ModelPayload):
    pass


@strawberry.type
class RollbackModelPayload(ModelPayload):
    pass


@strawberry.type
class CreatePlanPayload:
    row: strawberry.Private["QuerySet[subscriptions.Plan] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=Plan | None)
    def plan(self) -> "QuerySet[subscriptions.Plan] | None":
        return self.row


@strawberry.type
class ReleaseModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class PublishingMutation:
    @strawberry.mutation(description="A catalogue entry of the caller's tenant, without a version yet.")
    @expected_failures(CreateModelPayload)
    def create_model(self, info: Info, input: CreateModelInput) -> CreateModelPayload:
        model = entries.create_model(
            info.context.principal,
            name=input.name,
            display_name=input.display_name,
            summary=input.summary,
            card=input.card,
            task=input.task,
            tags=input.tags,
            license=input.license,
            visibility=input.visibility,
        )
        return CreateModelPayload(row=catalog.MLModel.objects.filter(pk=model.pk))

    @strawberry.mutation(description="On offer at once.")
    @expected_failures(CreatePlanPayload)
    def create_plan(self, info: Info, input: CreatePlanInput) -> CreatePlanPayload:
        overage = input.overage_price
        if overage is not None and overage.currency != input.price.currency:
            raise ValidationProblem(
                _("A plan has one currency: give this price in the currency of the other one."),
                path="input.overagePrice.currency",
            )
        plan = plans.create_plan(
            info.context.principal,
            model_ref=input.model,
            name=input.name,
            price=input.price.amount,
            currency=input.price.currency,
            included_units=input.included_units,
            overage_price=None if overage is None else overage.amount,
            requests_per_second=input.requests_per_second,
            burst=input.burst,
            unit=input.unit,
            max_concurrency=input.max_concurrency,
            max_tokens_per_call=input.max_tokens_per_call,
            requires_approval=input.requires_approval,
        )
        return CreatePlanPayload(row=subscriptions.Plan.objects.filter(pk=plan.pk))

    @strawberry.mutation(description="READY becomes LIVE once it is loaded and warm; the one before it stays READY.")
    @expected_failures(ReleaseModelVersionPayload)
    def release_model_version(self, info: Info, input: ReleaseModelVersionInput) -> ReleaseModelVersionPayload:
        version_id = primary_key(input.model_version, "ModelVersion", path="input.modelVersion")
        version = releases.release(info.context.principal, version_id=version_id)
        return ReleaseModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))

    @strawberry.mutation(
        description="Back to the version that was live before, at once; a release still under way is called off."
    )
    @expected_failures(RollbackModelPayload)
    def rollback_model(self, info: Info, input: RollbackModelInput) -> RollbackModelPayload:
        model = releases.rollback(info.context.principal, model_ref=input.model)
        return RollbackModelPayload(row=catalog.MLModel.objects.filter(pk=model.pk))
