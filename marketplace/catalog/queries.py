"""Reading the catalogue: what a principal may see, and finding something in it."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.postgres.search import SearchQuery, SearchRank, TrigramWordSimilarity
from django.db import models
from django.db.models import BigIntegerField, F, Q, Value
from django.db.models.functions import Cast

from marketplace.access import Principal

if TYPE_CHECKING:
    from .models import MLModel, ModelVersion, ReleaseEvent  # noqa: F401  (ruff does not look into type arguments)

MAX_SEARCH_LENGTH = 200


def visible_models(principal: Principal, prefix: str = "") -> Q:
    """Public models, the tenant's own, and private ones whose publisher granted them to the tenant.

    Of a model that was taken down, only its publisher and its subscribers are left to see it.
    """
    public, standing = Q(**{f"{prefix}visibility": "PUBLIC"}), Q(**{f"{prefix}taken_down_at": None})
    if principal.tenant_id is None:
        return public & standing
    own = Q(**{f"{prefix}publisher_id": principal.tenant_id})
    granted = Q(**{f"{prefix}id__in": _granted_to(principal.group_id)})
    subscribed = Q(**{f"{prefix}id__in": _subscribed_by(principal.tenant_id)})
    return own | (public | granted) & (standing | subscribed)


def _subscribed_by(tenant_id: UUID) -> "models.QuerySet[MLModel, object]":
    from .models import MLModel  # noqa: PLC0415  (models.py needs these QuerySets first)

    # Subscriptions are a room above: they come by way of the relation.
    current = {"model_subscriptions__status__in": ("ACTIVE", "SUSPENDED")}
    return MLModel.objects.filter(model_subscriptions__tenant_id=tenant_id, **current).values("pk")


def _granted_to(group_id: int | None) -> "models.QuerySet[MLModel, object]":
    from .models import MLModelGroupObjectPermission  # noqa: PLC0415  (models.py needs these QuerySets first)

    return MLModelGroupObjectPermission.objects.filter(group_id=group_id, permission__codename="use_mlmodel").values(
        "content_object_id"
    )


class MLModelQuerySet(models.QuerySet["MLModel"]):
    def visible_to(self, principal: Principal) -> "MLModelQuerySet":
        return self.filter(visible_models(principal))

    def by_ref(self, ref: str) -> "MLModelQuerySet":
        """`ref` is publisher/name; anything else finds nothing."""
        publisher, slash, name = ref.partition("/")
        if not slash or "\x00" in ref:
            return self.none()
        return self.filter(publisher__slug=publisher, name=name)

    def search(self, text: str) -> "MLModelQuerySet":
        """Full text, or a misspelt word near one of the model's; annotates `relevance` (millionths, an exact integer).

        An integer because a keyset cursor must compare equal to itself, which a rounded float need not.
        """
        text = " ".join(text.replace("\x00", " ").split())[:MAX_SEARCH_LENGTH]
        query = SearchQuery(text, config="english", search_type="websearch")
        score = SearchRank(F("search_vector"), query) * Value(2.0) + TrigramWordSimilarity(text, "search_text")
        return self.filter(Q(search_vector=query) | Q(search_text__trigram_word_similar=text)).annotate(
            relevance=Cast(score * Value(1_000_000.0), BigIntegerField())
        )


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def visible_to(self, principal: Principal) -> "ModelVersionQuerySet":
        """A publisher sees its drafts; everybody else what has been released of a model they may see."""
        released = Q(released_at__isnull=False) & visible_models(principal, "model__")
        if principal.tenant_id is None:
            return self.filter(released)
        return self.filter(released | Q(model__publisher_id=principal.tenant_id))

    def callable_by(self, principal: Principal) -> "ModelVersionQuerySet":
        """Of what is visible: what can run, that is READY or LIVE."""
        return self.visible_to(principal).filter(status__in=["READY", "LIVE"], model__taken_down_at=None)

    def live_at(self, model: "MLModel", moment: datetime) -> "ModelVersionQuerySet":
        """The version of `model` that was live then, or none, as the history of its releases has it."""
        from .models import GONE_LIVE, ReleaseEvent  # noqa: PLC0415  (as above)

        gone_live = ReleaseEvent.objects.filter(model=model, kind__in=GONE_LIVE, at__lte=moment)
        return self.filter(pk=models.Subquery(gone_live.order_by("-at", "-id").values("version")[:1]))


class ReleaseEventQuerySet(models.QuerySet["ReleaseEvent"]):
    def visible_to(self, principal: Principal) -> "ReleaseEventQuerySet":
        """The publisher's own models' history."""
        return self.filter(model__publisher_id=principal.tenant_id) if principal.tenant_id else self.none()
