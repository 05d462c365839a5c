"""Which version answers, as its publisher decides, and since when; and what a subscriber decides for itself."""

from datetime import datetime
from typing import Any

import strawberry
import strawberry_django
from django.db.models import QuerySet

from inference import models as inference
from marketplace.catalog import models as catalog
from marketplace.catalog.models import ReleaseEventKind
from marketplace.publishing import releases
from marketplace.subscriptions import models as subscriptions
from marketplace.subscriptions import pins

from .catalog import ModelVersion
from .context import Info
from .errors import Problem
from .mutation import expected_failures
from .nodes import primary_key
from .payloads import ModelPayload, ModelVersionPayload
from .scalars import BigInt
from .subscriptions import ModelSubscription

strawberry.enum(
    ReleaseEventKind,
    description="RELEASED, PROMOTED and ROLLED_BACK made the version the live one. REQUESTED waits until the version "
    "is loaded, or is CALLED_OFF.",
)

_COMPARED = ["shadow_ms", "live_ms", "equal", "close", "different", "mismatched"]

# What the operator does is told with its reason, and without whoever did it.
_OPERATORS = (ReleaseEventKind.TAKEN_DOWN, ReleaseEventKind.RESTORED)


@strawberry_django.type(catalog.ReleaseEvent, description="What became of a model's versions, and by whom.")
class ReleaseEvent:
    kind: ReleaseEventKind
    version: ModelVersion | None = strawberry_django.field(description="Null for what befell the model.")
    percent: int | None = strawberry_django.field(
        description="The share that a canary or shadow has from then on: 0 when it ends."
    )
    reason: str
    at: datetime

    @strawberry_django.field(
        only=["kind", "user__display_name", "user__email", "api_key__name"],
        select_related=["user", "api_key"],
        description="The publisher's person or API key that asked for it; null for who is gone, or the operator.",
    )
    def by(self: Any) -> str | None:
        if self.kind in _OPERATORS:
            return None
        if self.user is not None:
            return str(self.user.display_name or self.user.email)
        return None if self.api_key is None else str(self.api_key.name)


@strawberry_django.type(
    inference.ShadowComparison,
    description="How a shadow's answers compare with the live version's to the same calls. `close` is as ONNX's own "
    "tests have it: within a thousandth.",
)
class ShadowComparison:
    shadow: ModelVersion
    live: ModelVersion
    asked: BigInt
    equal: BigInt
    close: BigInt
    different: BigInt
    mismatched: BigInt = strawberry_django.field(description="With other names, datatypes or shapes.")
    failed: BigInt
    dropped: BigInt = strawberry_django.field(description="Not asked, because too many calls waited.")
    max_difference: float | None = strawberry_django.field(description="Between any two elements; null without any.")
    since: datetime
    updated_at: datetime

    @strawberry_django.field(only=_COMPARED, description="On average; null until something was compared.")
    def shadow_latency_ms(self: Any) -> float | None:
        return self.shadow_ms / self.compared if self.compared else None

    @strawberry_django.field(only=_COMPARED, description="Of the same calls.")
    def live_latency_ms(self: Any) -> float | None:
        return self.live_ms / self.compared if self.compared else None


@strawberry.input
class SetCanaryInput:
    model: str = strawberry.field(description="publisher/name")
    model_version: strawberry.ID | None = strawberry.field(default=None, description="Null: no canary.")
    percent: int = strawberry.field(description="Of the tenants that name no version: 0 to 100; 0 ends it.")


@strawberry.input
class PromoteCanaryInput:
    model: str = strawberry.field(description="publisher/name")


@strawberry.input
class SetShadowInput:
    model: str = strawberry.field(description="publisher/name")
    model_version: strawberry.ID | None = strawberry.field(default=None, description="Null: no shadow.")
    percent: int = strawberry.field(description="Of the live version's calls: 0 to 100; 0 ends it.")


@strawberry.input
class DeprecateModelVersionInput:
    model_version: strawberry.ID
    sunset_at: datetime | None = strawberry.field(
        default=None, description="From when on it may be retired. Once announced, it may only be moved to later."
    )


@strawberry.input
class RetireModelVersionInput:
    model_version: strawberry.ID


@strawberry.input
class PinModelVersionInput:
    model_subscription: strawberry.ID
    model_version: strawberry.ID | None = strawberry.field(default=None, description="Null: the live one again.")


@strawberry.type
class SetCanaryPayload(ModelPayload):
    pass


@strawberry.type
class PromoteCanaryPayload(ModelPayload):
    pass


@strawberry.type
class SetShadowPayload(ModelPayload):
    pass


@strawberry.type
class DeprecateModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class RetireModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class PinModelVersionPayload:
    row: strawberry.Private["QuerySet[subscriptions.ModelSubscription] | None"] = None
    errors: list[Problem] = strawberry.field(default_factory=list)

    @strawberry_django.field(graphql_type=ModelSubscription | None)
    def model_subscription(self) -> "QuerySet[subscriptions.ModelSubscription] | None":
        return self.row


@strawberry.type
class ReleasesMutation:
    @strawberry.mutation(
        description="Has a version that is ready answer a share of the tenants, always the same, once it is loaded."
    )
    @expected_failures(SetCanaryPayload)
    def set_canary(self, info: Info, input: SetCanaryInput) -> SetCanaryPayload:
        model = releases.set_canary(
            info.context.principal,
            model_ref=input.model,
            version_id=_version_id(input.model_version),
            percent=input.percent,
        )
        return SetCanaryPayload(row=catalog.MLModel.objects.filter(pk=model.pk))

    @strawberry.mutation(description="The canary becomes the live version, at once.")
    @expected_failures(PromoteCanaryPayload)
    def promote_canary(self, info: Info, input: PromoteCanaryInput) -> PromoteCanaryPayload:
        model = releases.promote_canary(info.context.principal, model_ref=input.model)
        return PromoteCanaryPayload(row=catalog.MLModel.objects.filter(pk=model.pk))

    @strawberry.mutation(
        description="Has a version that is ready asked what the live one is asked, after the answer. Nobody is charged."
    )
    @expected_failures(SetShadowPayload)
    def set_shadow(self, info: Info, input: SetShadowInput) -> SetShadowPayload:
        model = releases.set_shadow(
            info.context.principal,
            model_ref=input.model,
            version_id=_version_id(input.model_version),
            percent=input.percent,
        )
        return SetShadowPayload(row=catalog.MLModel.objects.filter(pk=model.pk))

    @strawberry.mutation(description="Tells its callers, with every answer, that it is to go, and when.")
    @expected_failures(DeprecateModelVersionPayload)
    def deprecate_model_version(self, info: Info, input: DeprecateModelVersionInput) -> DeprecateModelVersionPayload:
        version = releases.deprecate(
            info.context.principal,
            version_id=primary_key(input.model_version, "ModelVersion", path="input.modelVersion"),
            sunset_at=input.sunset_at,
        )
        return DeprecateModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))

    @strawberry.mutation(description="Nobody can call it from now on. Not what is live, a canary, or pinned.")
    @expected_failures(RetireModelVersionPayload)
    def retire_model_version(self, info: Info, input: RetireModelVersionInput) -> RetireModelVersionPayload:
        version_id = primary_key(input.model_version, "ModelVersion", path="input.modelVersion")
        version = releases.retire(info.context.principal, version_id=version_id)
        return RetireModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))

    @strawberry.mutation(
        description="That version answers the tenant's calls that name none, whatever is released meanwhile."
    )
    @expected_failures(PinModelVersionPayload)
    def pin_model_version(self, info: Info, input: PinModelVersionInput) -> PinModelVersionPayload:
        subscription = pins.pin(
            info.context.principal,
            subscription_id=primary_key(input.model_subscription, "ModelSubscription", path="input.modelSubscription"),
            version_id=_version_id(input.model_version),
        )
        return PinModelVersionPayload(row=subscriptions.ModelSubscription.objects.filter(pk=subscription.pk))


def _version_id(given: strawberry.ID | None) -> Any:
    return None if given is None else primary_key(given, "ModelVersion", path="input.modelVersion")
