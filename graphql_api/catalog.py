"""The catalogue: models and their versions as anybody may browse them."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import strawberry
import strawberry_django
from django.db.models import Prefetch, QuerySet
from strawberry import relay
from strawberry.extensions import FieldExtension
from strawberry.scalars import JSON
from strawberry_django.optimizer import OptimizerStore, optimize

from inference import models as inference
from marketplace.catalog import models as catalog
from marketplace.catalog.models import Datatype, Direction, MLModel, ModelTask, ModelVersionStatus, Visibility
from marketplace.subscriptions import models as subscriptions
from marketplace.tenants.models import Tenant

from .cards import rendered
from .checks import ModelVersionCheck, check_of
from .connections import Connection, Order, Page, own, paginate, related
from .context import Info
from .nodes import ByPrimaryKey
from .revenue import DESCRIPTION, Usage, model_usage, publisher_usage
from .scalars import BigInt
from .searching import NEWEST_FIRST, Facets, ModelFilter, ModelOrder, ModelSearch

if TYPE_CHECKING:
    from .deployments import ModelVersionDeployment
    from .releases import ReleaseEvent, ShadowComparison
    from .requests import ModelSubscriptionRequest
    from .subscriptions import ModelSubscription, Plan

strawberry.enum(ModelTask)
strawberry.enum(Visibility)
strawberry.enum(ModelVersionStatus)
strawberry.enum(Datatype, description="Datatypes and names as the Open Inference Protocol (v2) has them.")

BY_NUMBER = Order("number", ("number",))
MOST_COMPARISONS = 20
LATEST_EVENT_FIRST = Order("history", ("at", "id"))


@strawberry_django.type(catalog.TensorSpec)
class TensorSpec:
    name: str
    datatype: Datatype
    shape: list[BigInt] = strawberry_django.field(description="-1 for a dynamic dimension.")
    content_type: str | None = strawberry_django.field(
        description="text/plain, image/png, application/x-class-scores, ...: what a person would send or see."
    )
    labels: list[str] | None = strawberry_django.field(description="For class scores: the name of each index.")
    example: JSON | None = strawberry_django.field(description="A value to try, flat and row-major.")
    example_shape: list[BigInt] | None


def _own_deployments(info: Info) -> "QuerySet[inference.Deployment]":
    return inference.Deployment.objects.visible_to(info.context.principal).order_by("endpoint", "id")


def _tensors(direction: Direction, description: str) -> Any:
    attribute = f"{direction.value.lower()}_specs"

    def resolve(self: Any) -> Any:
        known = getattr(self, attribute, None)
        return self.tensors.filter(direction=direction).order_by("position") if known is None else known

    rows = catalog.TensorSpec.objects.filter(direction=direction).order_by("position")
    return strawberry_django.field(
        resolver=resolve,
        graphql_type=list[TensorSpec],
        description=description,
        prefetch_related=[lambda _info: Prefetch("tensors", queryset=rows.all(), to_attr=attribute)],
    )


@strawberry_django.type(catalog.ModelVersion, description="One immutable artefact of a model, under its number.")
class ModelVersion(ByPrimaryKey, relay.Node):
    number: int
    status: ModelVersionStatus
    format: str = strawberry_django.field(description="onnx, ...")
    sha256: str
    size_bytes: BigInt
    release_notes: str
    created_at: datetime
    inputs = _tensors(Direction.INPUT, "What it takes.")
    outputs = _tensors(Direction.OUTPUT, "What it gives.")
    deprecated_at: datetime | None = strawberry_django.field(
        description="Since when its callers are told that it is to go."
    )
    sunset_at: datetime | None = strawberry_django.field(description="From when on it may be retired.")

    instance_count: int = strawberry_django.field(description="How many copies of it run on each server.")
    max_batch_size: int = strawberry_django.field(
        description="How many rows a request may have, since requests are merged; 0: they are not, and there is no "
        "such limit."
    )
    response_cache: bool = strawberry_django.field(
        description="Whether the same request gets the answer that it got before."
    )

    @strawberry_django.field(
        graphql_type=list[Annotated["ModelVersionDeployment", strawberry.lazy(".deployments")]],
        prefetch_related=[
            lambda info: Prefetch("deployments", queryset=_own_deployments(info), to_attr="own_deployments")
        ],
        description="Where it runs: its publisher's and the operator's to know, nobody else's.",
    )
    def deployments(self: Any, info: Info) -> Any:
        known = getattr(self, "own_deployments", None)
        return _own_deployments(info).filter(version=self.pk) if known is None else known

    @strawberry_django.field(
        only=["report", "model__publisher_id"],
        select_related=["model"],
        description="Its publisher's alone; null for everybody else, and where nothing was checked.",
    )
    def check(self: Any, info: Info) -> ModelVersionCheck | None:
        principal = info.context.principal
        own = principal.tenant_id is not None and self.model.publisher_id == principal.tenant_id
        return check_of(self.report) if own else None


class PublishersOwn(FieldExtension):
    """Null for everybody but the model's publisher."""

    def resolve(self, next_: Callable[..., Any], source: Any, info: Info, **arguments: Any) -> Any:
        is_own = source.publisher_id == info.context.principal.tenant_id
        return next_(source, info, **arguments) if is_own else None


def _publishers_own(description: str, **options: Any) -> Any:
    return strawberry_django.field(
        description=f"{description} Its publisher's to know.",
        only=["publisher_id"],
        extensions=[PublishersOwn()],
        **options,
    )


def _model_key() -> OptimizerStore:
    """A new one for each query: the optimizer writes into it."""
    store: OptimizerStore = OptimizerStore.with_hints(only=["model_id"])
    return store


def _viewer_subscriptions(info: Info) -> "QuerySet[subscriptions.ModelSubscription]":
    rows = subscriptions.ModelSubscription.objects.visible_to(info.context.principal).current()
    return optimize(rows, info, store=_model_key())


def _viewer_requests(info: Info) -> "QuerySet[subscriptions.ModelSubscriptionRequest]":
    """The latest for each model."""
    rows = subscriptions.ModelSubscriptionRequest.objects.visible_to(info.context.principal)
    return optimize(rows.order_by("model_id", "-id").distinct("model_id"), info, store=_model_key())


def _plans_on_offer(info: Info) -> "QuerySet[subscriptions.Plan]":
    return subscriptions.Plan.objects.visible_to(info.context.principal).on_offer()


def _shadow_comparisons(self: Any, info: Info) -> Any:
    rows = inference.ShadowComparison.objects.visible_to(info.context.principal).filter(shadow__model=self.pk)
    return rows.order_by("-updated_at", "-id")[:MOST_COMPARISONS]


@strawberry_django.type(MLModel, name="Model")
class Model(ByPrimaryKey, relay.Node):
    name: str
    display_name: str
    summary: str
    card: str = strawberry_django.field(description="Markdown, as the publisher wrote it.")
    task: ModelTask
    tags: list[str]
    license: str
    visibility: Visibility
    publisher: "Publisher"
    created_at: datetime
    updated_at: datetime
    live_version: ModelVersion | None = strawberry_django.field(
        description="The version that answers when a caller names none."
    )
    subscriber_count: int
    releasing_version: ModelVersion | None = _publishers_own("Goes live, or becomes the canary, once it is loaded.")
    releasing_percent: int | None = _publishers_own("The share that it will have as the canary; null: it goes live.")
    canary_version: ModelVersion | None = _publishers_own("Answers a share of the tenants that name none.")
    canary_percent: int | None = _publishers_own("The canary's share.")
    shadow_version: ModelVersion | None = _publishers_own("Is asked a share of what the live version is asked.")
    shadow_percent: int | None = _publishers_own("The shadow's share.")
    shadow_comparisons: list[Annotated["ShadowComparison", strawberry.lazy(".releases")]] | None = _publishers_own(
        "How shadows did, the latest first.", resolver=_shadow_comparisons
    )
    releases = related(
        "release_events",
        back="model",
        graphql_type=Connection[Annotated["ReleaseEvent", strawberry.lazy(".releases")]],  # type: ignore[type-var]  # no Node: nobody looks one up
        order=LATEST_EVENT_FIRST,
        visible=catalog.ReleaseEvent.objects.visible_to,
        description="Its history, newest first: its publisher's to know.",
    )
    taken_down_at: datetime | None = strawberry_django.field(
        description="Since when the operator lets nobody call it. Its publisher and its subscribers still see it."
    )
    takedown_reason: str = strawberry_django.field(description="Why it was taken down; empty while it is not.")
    versions = related(
        "versions",
        back="model",
        graphql_type=Connection[ModelVersion],
        order=BY_NUMBER,
        visible=catalog.ModelVersion.objects.visible_to,
        description="Those the caller may see, newest first: a publisher its drafts, others what was released.",
    )

    usage: Usage | None = strawberry_django.field(resolver=model_usage, only=["publisher_id"], description=DESCRIPTION)

    @strawberry_django.field(
        only=["name", "publisher__slug"], select_related=["publisher"], description="publisher/name, as in acme/digits."
    )
    def ref(self: Any) -> str:
        return f"{self.publisher.slug}/{self.name}"

    @_publishers_own("The version that was live at that moment, as its history has it.")
    def version_live_at(self: Any, at: datetime) -> ModelVersion | None:
        return catalog.ModelVersion.objects.live_at(self, at).first()  # type: ignore[return-value]

    @strawberry_django.field(only=["card"], description="The card, rendered and sanitised.")
    def card_html(self: Any) -> str:
        return rendered(self.card)

    @strawberry_django.field(
        graphql_type=list[Annotated["Plan", strawberry.lazy(".subscriptions")]],
        prefetch_related=[lambda info: Prefetch("plans", queryset=_plans_on_offer(info), to_attr="plans_on_offer")],
        description="What is on offer.",
    )
    def plans(self: Any, info: Info) -> Any:
        known = getattr(self, "plans_on_offer", None)
        return _plans_on_offer(info).filter(model=self.pk) if known is None else known

    @strawberry_django.field(
        graphql_type=Annotated["ModelSubscriptionRequest", strawberry.lazy(".requests")] | None,
        prefetch_related=[
            lambda info: Prefetch(
                "model_subscription_requests", queryset=_viewer_requests(info), to_attr="viewer_requests"
            )
        ],
        description="What the caller's tenant has asked for last, and what the publisher says to it.",
    )
    def viewer_request(self: Any, info: Info) -> Any:
        known = getattr(self, "viewer_requests", None)
        if known is None:
            return _viewer_requests(info).filter(model=self.pk)
        return known[0] if known else None

    subscription_requests = own(
        Connection[Annotated["ModelSubscriptionRequest", strawberry.lazy(".requests")]],
        NEWEST_FIRST,
        lambda model, principal: subscriptions.ModelSubscriptionRequest.objects.of_publisher(principal).filter(
            model=model.pk
        ),
        "Who asks, and who has asked, for a plan that is given on request, newest first. For the publisher alone.",
    )

    @strawberry_django.field(
        graphql_type=Annotated["ModelSubscription", strawberry.lazy(".subscriptions")] | None,
        prefetch_related=[
            lambda info: Prefetch(
                "model_subscriptions", queryset=_viewer_subscriptions(info), to_attr="viewer_subscriptions"
            )
        ],
        description="The caller's own subscription to this model.",
    )
    def viewer_subscription(self: Any, info: Info) -> Any:
        known = getattr(self, "viewer_subscriptions", None)
        if known is None:
            return _viewer_subscriptions(info).filter(model=self.pk)
        return known[0] if known else None


@strawberry.type
class ModelConnection(Connection[Model]):
    search: strawberry.Private[ModelSearch]

    @strawberry.field(description="Counted in SQL, each only when it is asked for.")
    def facets(self) -> Facets:
        return Facets(search=self.search)


@strawberry_django.type(Tenant, name="Publisher", description="The public face of a tenant that publishes.")
class Publisher(ByPrimaryKey, relay.Node):
    slug: str
    name: str
    models = related(
        "models",
        back="publisher",
        graphql_type=ModelConnection,
        connection=lambda publisher, info: partial(
            ModelConnection, search=ModelSearch(info.context.principal, None, ModelFilter(publisher=publisher.slug))
        ),
        only=["slug"],
        order=NEWEST_FIRST,
        visible=MLModel.objects.visible_to,
        description="Those the caller may see, newest first.",
    )
    usage: Usage | None = strawberry_django.field(resolver=publisher_usage, description=DESCRIPTION)


@strawberry.type
class CatalogQuery:
    @strawberry.field(
        description="Public models plus those the caller's tenant may see. "
        "Keyset cursors: page 10,000 costs what page 1 costs."
    )
    def models(
        self,
        info: Info,
        search: str | None = None,
        filter: ModelFilter | None = None,
        order_by: ModelOrder = ModelOrder.RELEVANCE,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> ModelConnection:
        found = ModelSearch(info.context.principal, search, filter)
        page = Page(first, after, last, before)
        connection: ModelConnection = paginate(
            partial(ModelConnection, search=found), found.rows(), found.order(order_by), page, info
        )
        return connection

    @strawberry_django.field(graphql_type=Model | None, description="`ref` is publisher/name, as in acme/digits.")
    def model(self, info: Info, ref: str) -> "QuerySet[MLModel]":
        return MLModel.objects.by_ref(ref).visible_to(info.context.principal)

    @strawberry.field(graphql_type=Publisher | None)
    def publisher(self, slug: str) -> Tenant | None:
        return Tenant.objects.publishers().filter(slug=slug.replace("\0", "\N{REPLACEMENT CHARACTER}")).first()
