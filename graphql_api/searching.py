"""Finding models: the search's text, its filters, its orders, and the facets that narrow it down."""

import enum
from typing import Any

import strawberry
import strawberry_django
from django.db.models import Count, F, Func, Q, QuerySet

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelTask
from marketplace.catalog.queries import MLModelQuerySet
from marketplace.errors import ValidationProblem
from marketplace.subscriptions.models import ModelSubscription

from .connections import Order

MOST_FACET_VALUES = 50

BY_POPULARITY = Order("popularity", ("subscriber_count", "id"))
# UUIDv7 keys are in the order of their creation.
NEWEST_FIRST = Order("newest", ("id",))
BY_NAME = Order("name", ("name", "id"), descending=False)
BY_RELEVANCE = Order("relevance", ("relevance", "id"))


@strawberry.enum
class ModelOrder(enum.Enum):
    RELEVANCE = strawberry.enum_value("RELEVANCE", description="Best match first; without `search`, POPULARITY.")
    POPULARITY = "POPULARITY"
    NEWEST = "NEWEST"
    NAME = "NAME"


@strawberry.input(description="Models that meet all that is given. An empty list asks for nothing.")
class ModelFilter:
    tasks: list[ModelTask] | None = strawberry.field(default=None, description="One of these.")
    tags: list[str] | None = strawberry.field(default=None, description="All of these.")
    publisher: str | None = strawberry.field(default=None, description="The publisher's slug.")
    licenses: list[str] | None = strawberry.field(default=None, description="One of these.")
    subscribed: bool | None = strawberry.field(
        default=None, description="Whether the caller's tenant has a subscription to the model."
    )


class ModelSearch:
    """What a principal sees of the catalogue under a search text and a filter."""

    def __init__(self, principal: Principal, text: str | None, wanted: ModelFilter | None) -> None:
        self.principal = principal
        self.text = (text or "").replace("\0", " ").strip()
        self.wanted = wanted or ModelFilter()

    def order(self, order: ModelOrder) -> Order:
        match order:
            case ModelOrder.NEWEST:
                return NEWEST_FIRST
            case ModelOrder.NAME:
                return BY_NAME
            case ModelOrder.RELEVANCE if self.text:
                return BY_RELEVANCE
        return BY_POPULARITY

    def rows(self, *, without: str | None = None) -> MLModelQuerySet:
        """`without` leaves one filter out: what its facet counts is what choosing another value would find."""
        rows = MLModel.objects.visible_to(self.principal)
        if self.text:
            rows = rows.search(self.text)
        for name, condition in self._conditions():
            if name != without:
                rows = rows.filter(condition)
        return rows

    def _conditions(self) -> list[tuple[str, Q]]:
        wanted, conditions = self.wanted, []
        if wanted.tasks:
            conditions.append(("tasks", Q(task__in=wanted.tasks)))
        if wanted.tags:
            conditions.append(("tags", Q(tags__contains=[_text(tag, "filter.tags") for tag in wanted.tags])))
        if wanted.publisher is not None:
            conditions.append(("publishers", Q(publisher__slug=_text(wanted.publisher, "filter.publisher"))))
        if wanted.licenses:
            licenses = [_text(name, "filter.licenses") for name in wanted.licenses]
            conditions.append(("licenses", Q(license__in=licenses)))
        if wanted.subscribed is not None:
            held = ModelSubscription.objects.visible_to(self.principal).current().values("model_id")
            conditions.append(("subscribed", Q(id__in=held) if wanted.subscribed else ~Q(id__in=held)))
        return conditions


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise ValidationProblem("A filter holds no NUL characters.", path=path)
    return value


@strawberry.type(description="A value to filter by, and how many models it would find.")
class FacetValue:
    value: str
    count: int


@strawberry.type(description=f"The most frequent values under the search, at most {MOST_FACET_VALUES} of each.")
class Facets:
    search: strawberry.Private[ModelSearch]

    @strawberry_django.field
    def tasks(self) -> list[FacetValue]:
        return _counted(self.search.rows(without="tasks"), F("task"))

    @strawberry_django.field(description="Under the tags that are chosen already: tags narrow each other down.")
    def tags(self) -> list[FacetValue]:
        return _counted(self.search.rows(), Func(F("tags"), function="unnest"))

    @strawberry_django.field
    def licenses(self) -> list[FacetValue]:
        return _counted(self.search.rows(without="licenses"), F("license"))

    @strawberry_django.field(description="By slug.")
    def publishers(self) -> list[FacetValue]:
        return _counted(self.search.rows(without="publishers"), F("publisher__slug"))


def _counted(rows: "QuerySet[Any]", value: F | Func) -> list[FacetValue]:
    counts = rows.order_by().values(value=value).annotate(count=Count("pk")).order_by("-count", "value")
    return [FacetValue(value=row["value"], count=row["count"]) for row in counts[:MOST_FACET_VALUES]]
