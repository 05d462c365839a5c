"""What a publisher says of its models: catalogue entries, made and changed."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelTask, Visibility
from marketplace.subscriptions import sharing

from .ownership import own_model, require_publisher
from .validation import check, input_path, save

MODEL_FIELDS = ("display_name", "summary", "card", "task", "tags", "license", "visibility")


@transaction.atomic
def create_model(
    principal: Principal,
    *,
    name: str,
    display_name: str,
    summary: str,
    license: str,
    card: str = "",
    task: str = ModelTask.OTHER,
    tags: Sequence[str] = (),
    visibility: str = Visibility.PRIVATE,
) -> MLModel:
    """A catalogue entry `publisher/name` without a version yet. Raises ValidationProblem for the first wrong field."""
    require_publisher(principal)
    assert principal.tenant_id is not None
    model = MLModel(
        publisher_id=principal.tenant_id,
        name=name.strip(),
        display_name=display_name.strip(),
        summary=summary.strip(),
        card=card,
        task=task,
        tags=_distinct(tags),
        license=license.strip(),
        visibility=visibility,
    )
    check(model, ("name", *MODEL_FIELDS), input_path)
    save(model, taken=_("You have a model of this name already: choose another one."), path="input.name")
    return model


@transaction.atomic
def update_model(
    principal: Principal,
    *,
    model_id: UUID,
    display_name: str,
    summary: str,
    card: str,
    task: str,
    tags: Sequence[str],
    license: str,
    visibility: str,
) -> MLModel:
    """Everything but the name, which clients call it by.

    Who subscribed to a public model keeps a private one; a suspended subscription comes back with a public one.
    """
    model = own_model(principal, MLModel.objects.filter(pk=model_id))
    before = model.visibility
    model.display_name, model.summary, model.license = display_name.strip(), summary.strip(), license.strip()
    model.card, model.task, model.tags, model.visibility = card, task, _distinct(tags), visibility
    check(model, MODEL_FIELDS, input_path)
    model.save(update_fields=[*MODEL_FIELDS, "updated_at"])
    if model.visibility != before:
        sharing.follow(principal, model=model)
    return model


def _distinct(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tag.strip() for tag in tags))
