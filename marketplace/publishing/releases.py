"""Which version answers: releases, canaries and shadows, and the way back. Every step is a `ReleaseEvent`.

All of it happens under the lock on the model, and holds for calls from the next admission on.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from marketplace.access import Principal, find
from marketplace.catalog.models import (
    MLModel,
    ModelVersion,
    ModelVersionStatus,
    ReleaseEvent,
    ReleaseEventKind,
)
from marketplace.catalog.takedowns import require_standing
from marketplace.errors import ValidationProblem
from marketplace.subscriptions.models import ModelSubscription

from .ownership import own_model, own_version
from .worker import tell_reconciler

# Who asked for it: a principal, or an event that says so.
Who = Principal | ReleaseEvent


@transaction.atomic
def release(principal: Principal, *, version_id: UUID) -> ModelVersion:
    """Asks for a READY version to go live. It does so in `promote_ready`, once every Triton has it loaded and warm.

    The last request wins. Releasing the live version calls off whatever release is still under way.
    """
    version = own_version(principal, version_id)
    require_standing(version.model)
    if version.status not in {ModelVersionStatus.READY, ModelVersionStatus.LIVE}:
        raise _not_ready(version)
    _request(principal, version.model, version if version.status == ModelVersionStatus.READY else None)
    return version


@transaction.atomic
def set_canary(principal: Principal, *, model_ref: str, version_id: UUID | None, percent: int) -> MLModel:
    """Has a READY version answer `percent` of the tenants that name none, always the same ones; 0 or None ends it.

    A version that is not the canary yet becomes so in `promote_ready`, once every Triton has it loaded; until then the
    canary before it goes on. Growing the share only ever adds tenants. It is a release to those tenants: subscribers
    may name the version from then on.
    """
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    version = _chosen(principal, model, version_id, percent)
    if version is None:
        if model.releasing_percent is not None:
            _request(principal, model, None)
        _set_share(principal, model, ReleaseEventKind.CANARY, None, 0)
    elif version.pk == model.canary_version_id:
        if model.releasing_percent is not None:
            _request(principal, model, None)
        _set_share(principal, model, ReleaseEventKind.CANARY, version, percent)
    else:
        _request(principal, model, version, percent)
    return model


@transaction.atomic
def promote_canary(principal: Principal, *, model_ref: str) -> MLModel:
    """The canary becomes the live version, at once: it is loaded. Calls off a release that is under way."""
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    require_standing(model)
    version = model.canary_version
    if version is None:
        raise ValidationProblem(
            _("This model has no canary that answers calls: there is none to promote."), path="input.model"
        )
    _request(principal, model, None)
    _go_live(principal, model, version, ReleaseEventKind.PROMOTED)
    return model


@transaction.atomic
def set_shadow(principal: Principal, *, model_ref: str, version_id: UUID | None, percent: int) -> MLModel:
    """Has a READY version asked what `percent` of the live version's calls ask, after they are answered; 0 ends it.

    So does None. Its answers are compared with the live version's and thrown away, and nobody is charged for them
    (inference/shadows.py).
    """
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    version = _chosen(principal, model, version_id, percent)
    _set_share(principal, model, ReleaseEventKind.SHADOW, version, percent if version is not None else 0)
    return model


@transaction.atomic
def promote_ready(version_ids: Iterable[UUID]) -> None:
    """Has what waited for these versions, loaded everywhere and warm by now, come to pass: live, or the canary.

    What is taken down meanwhile waits on.
    """
    waiting = MLModel.objects.filter(releasing_version__in=list(version_ids), taken_down_at=None).order_by("pk")
    for model in waiting.select_for_update():
        version, percent = model.releasing_version, model.releasing_percent
        if version is None or version.status != ModelVersionStatus.READY:
            continue
        events = ReleaseEvent.objects.filter(model=model, version=version, kind=ReleaseEventKind.REQUESTED)
        who = events.order_by("-at", "-id").first()
        model.releasing_version = model.releasing_percent = None
        if percent is None:
            _go_live(who, model, version, ReleaseEventKind.RELEASED)
        else:
            model.save(update_fields=["releasing_version", "releasing_percent"])
            _set_share(who, model, ReleaseEventKind.CANARY, version, percent)


@transaction.atomic
def rollback(principal: Principal, *, model_ref: str) -> MLModel:
    """Calls off what is under way, a release and a canary; with neither, goes back to the version live before. At once.

    At once, because READY versions stay loaded. Whichever it was, the live version then answers all whom no
    subscription's pin keeps elsewhere.
    """
    model = own_model(principal, MLModel.objects.by_ref(model_ref))
    if model.releasing_version_id is not None or model.canary_version_id is not None:
        _request(principal, model, None)
        _set_share(principal, model, ReleaseEventKind.CANARY, None, 0)
        return model
    live = model.versions.filter(status=ModelVersionStatus.LIVE).select_related("live_before").first()
    before = live.live_before if live else None
    if before is None:
        raise ValidationProblem(
            _("No other version was live before: there is nothing to go back to."), path="input.model"
        )
    if before.status != ModelVersionStatus.READY:
        raise ValidationProblem(
            _("Version %(number)d was live before and is retired since: release another one instead.")
            % {"number": before.number},
            path="input.model",
        )
    _go_live(principal, model, before, ReleaseEventKind.ROLLED_BACK)
    return model


@transaction.atomic
def deprecate(principal: Principal, *, version_id: UUID, sunset_at: datetime | None) -> ModelVersion:
    """Tells those who call it, with every answer, that it is to go, and when: from `sunset_at` on it may be retired.

    Nothing ends by itself. A sunset that was announced may be moved to later, not to sooner, nor taken back.
    """
    version = own_version(principal, version_id)
    if version.status not in {ModelVersionStatus.READY, ModelVersionStatus.LIVE}:
        raise _not_ready(version)
    if sunset_at is not None and sunset_at < timezone.now():
        raise ValidationProblem(_("A sunset is announced before it comes: choose a later date."), path="input.sunsetAt")
    if version.sunset_at is not None and (sunset_at is None or sunset_at < version.sunset_at):
        raise ValidationProblem(
            _("Its callers have been told %(sunset)s: choose that, or a later date.")
            % {"sunset": f"{version.sunset_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"},
            path="input.sunsetAt",
        )
    if version.deprecated_at is None or version.sunset_at != sunset_at:
        version.deprecated_at, version.sunset_at = version.deprecated_at or timezone.now(), sunset_at
        version.save(update_fields=["deprecated_at", "sunset_at"])
        _note(principal, version.model, ReleaseEventKind.DEPRECATED, version)
    return version


@transaction.atomic
def retire(principal: Principal, *, version_id: UUID) -> ModelVersion:
    """Nobody can call it from now on, and it is unloaded. Retiring twice changes nothing.

    Not while it answers those who name no version: as the live one, as the canary, or as the one that a subscriber has
    pinned, unless its sunset has passed. From then on the live version answers who has it pinned.
    """
    version = own_version(principal, version_id)
    model = version.model
    if version.status == ModelVersionStatus.LIVE:
        raise ValidationProblem(_("This version is live: release another one first."), path="input.modelVersion")
    if version.status == ModelVersionStatus.VALIDATING:
        raise ValidationProblem(_("This version is being checked: wait for the end."), path="input.modelVersion")
    if version.status == ModelVersionStatus.RETIRED:
        return version
    if model.canary_version_id == version.pk:
        raise ValidationProblem(_("This version is the canary: end that first."), path="input.modelVersion")
    if not (version.sunset_at and version.sunset_at <= timezone.now()):
        pins = ModelSubscription.objects.current().filter(pinned_version=version).count()
        if pins:
            raise ValidationProblem(
                ngettext(
                    "A subscriber has pinned this version: deprecate it with a date, retire it after that.",
                    "%(pins)d subscribers have pinned this version: deprecate it with a date, retire it after that.",
                    pins,
                )
                % {"pins": pins},
                path="input.modelVersion",
            )
    if model.releasing_version_id == version.pk:
        _request(principal, model, None)
    if model.shadow_version_id == version.pk:
        _set_share(principal, model, ReleaseEventKind.SHADOW, None, 0)
    version.status = ModelVersionStatus.RETIRED
    version.save(update_fields=["status"])
    _note(principal, model, ReleaseEventKind.RETIRED, version)
    tell_reconciler()
    return version


def _note(
    who: Who | None, model: MLModel, kind: ReleaseEventKind, version: ModelVersion, *, percent: int | None = None
) -> None:
    """Adds to the history; with the model locked, so that its order is the one in which things happened."""
    ReleaseEvent.objects.create(
        model=model,
        version=version,
        kind=kind,
        percent=percent,
        user_id=who.user_id if who else None,
        api_key_id=who.api_key_id if who else None,
    )


def _request(principal: Principal, model: MLModel, version: ModelVersion | None, percent: int | None = None) -> None:
    """This release is under way from now on, instead of whichever was."""
    wanted = (version.pk if version else None, percent)
    if wanted == (model.releasing_version_id, model.releasing_percent):
        return
    if model.releasing_version is not None:
        _note(principal, model, ReleaseEventKind.CALLED_OFF, model.releasing_version, percent=model.releasing_percent)
    model.releasing_version, model.releasing_percent = version, percent
    model.save(update_fields=["releasing_version", "releasing_percent"])
    if version is not None:
        _note(principal, model, ReleaseEventKind.REQUESTED, version, percent=percent)
        tell_reconciler()


def _chosen(principal: Principal, model: MLModel, version_id: UUID | None, percent: int) -> ModelVersion | None:
    """The version that is to stand beside the live one; None for none."""
    if not 0 <= percent <= 100:
        raise ValidationProblem(_("A share is a percentage, from 0 to 100."), path="input.percent")
    if version_id is None or percent == 0:
        return None
    require_standing(model)
    version: ModelVersion = find(
        ModelVersion.objects.filter(model=model), principal, path="input.modelVersion", pk=version_id
    )
    if model.live_version_id is None:
        raise ValidationProblem(_("This model has no live version yet: release this one."), path="input.modelVersion")
    if version.pk == model.live_version_id:
        raise ValidationProblem(_("This version is live: choose another one."), path="input.modelVersion")
    if version.status != ModelVersionStatus.READY:
        raise _not_ready(version)
    return version


def _set_share(
    who: Who | None, model: MLModel, kind: ReleaseEventKind, version: ModelVersion | None, percent: int
) -> None:
    """Of a CANARY, which is a release to some, or of a SHADOW."""
    beside = kind.lower()
    before, share = getattr(model, f"{beside}_version"), getattr(model, f"{beside}_percent")
    if (version, percent) == (before, share):
        return
    if before is not None and before != version:
        _note(who, model, kind, before, percent=0)
    setattr(model, f"{beside}_version", version)
    setattr(model, f"{beside}_percent", percent)
    model.save(update_fields=[f"{beside}_version", f"{beside}_percent"])
    if version is not None:
        if kind == ReleaseEventKind.CANARY and version.released_at is None:
            version.released_at = timezone.now()
            version.save(update_fields=["released_at"])
        _note(who, model, kind, version, percent=percent)


def _go_live(who: Who | None, model: MLModel, version: ModelVersion, kind: ReleaseEventKind) -> None:
    """In place of the version that is live now, for everybody: a canary ends."""
    ModelVersion.objects.filter(model=model, status=ModelVersionStatus.LIVE).update(status=ModelVersionStatus.READY)
    if kind != ReleaseEventKind.ROLLED_BACK:
        version.live_before_id = model.live_version_id
    version.status = ModelVersionStatus.LIVE
    version.released_at = version.released_at or timezone.now()
    version.save(update_fields=["status", "released_at", "live_before"])
    model.live_version = version
    model.save(update_fields=["live_version", "releasing_version", "releasing_percent", "updated_at"])
    _set_share(who, model, ReleaseEventKind.CANARY, None, 0)
    if model.shadow_version_id == version.pk:
        _set_share(who, model, ReleaseEventKind.SHADOW, None, 0)
    _note(who, model, kind, version)


def _not_ready(version: ModelVersion) -> ValidationProblem:
    return ValidationProblem(
        _("Only a version that is ready can be released, and this one is “%(status)s”.")
        % {"status": version.get_status_display()},
        path="input.modelVersion",
    )
