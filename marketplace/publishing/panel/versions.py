"""Versions, as their publisher tends them: what the checks say, how they run, and who gets their answers."""

from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.module_loading import import_string
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from marketplace.access import Principal
from marketplace.catalog.models import ArtifactFormat, Direction, ModelVersion, ModelVersionStatus
from marketplace.publishing import configuration, descriptions, releases
from marketplace.publishing.descriptions import Description
from marketplace.subscriptions.models import ModelSubscription

from .controls import ControlledAdmin
from .questions import CanaryQuestion, SettingsQuestion, ShadowQuestion, SunsetQuestion, TensorsQuestion
from .reports import report_of
from .shadows import comparisons_of
from .site import principal_of, publisher_site
from .steps import StepsQuestion, compose
from .tables import TensorInline

MOST_PINNED = 50
STATUS_COLOURS = {
    ModelVersionStatus.LIVE: "success",
    ModelVersionStatus.READY: "info",
    ModelVersionStatus.VALIDATING: "warning",
    ModelVersionStatus.REJECTED: "danger",
}


@admin.register(ModelVersion, site=publisher_site)
class ModelVersionAdmin(ControlledAdmin):
    icon = "commit"
    list_display = ("__str__", "shown_status", "shown_format", "size", "created_at", "released_at")
    list_filter = ("status",)
    search_fields = ("model__name", "model__display_name", "sha256")
    ordering = ("-pk",)
    fields = (
        "model",
        "number",
        "state",
        "shown_format",
        "checksum",
        "size",
        "release_notes",
        "instance_count",
        "largest_batch",
        "response_cache",
        "created_at",
        "released_at",
    )
    readonly_fields = ("state", "shown_format", "checksum", "size", "largest_batch", "released_at")
    inlines = (TensorInline,)
    empty_state = gettext_lazy("A version is one artefact of a model, fixed for good. Upload one on its model's page.")
    hints = {
        "release": gettext_lazy("It takes the live version's place, for everybody, once it is loaded and warm."),
        "promote": gettext_lazy("The canary takes the live version's place, for everybody, at once."),
        "canary": gettext_lazy("It answers a share of the tenants, always the same ones, and is charged as any call."),
        "shadow": gettext_lazy("It is asked what the live version is asked; the answers are compared, never charged."),
        "steps": gettext_lazy("A picture, a text or labels in the place of numbers: a new version, made of this one."),
        "describe": gettext_lazy("What is new, and what its tensors mean: content types, labels, examples."),
        "configure": gettext_lazy("How Triton runs it: instances, batches, response cache. Nobody waits meanwhile."),
        "deprecate": gettext_lazy("Its callers are told that it is to go, and when."),
        "retire": gettext_lazy("Nobody can call it any more, for good."),
    }
    actions_detail = (*hints, "report")
    change_form_outer_before_template = "publish/version.html"

    def own(self, principal: Principal) -> models.QuerySet[ModelVersion]:
        return ModelVersion.objects.filter(model__publisher_id=principal.tenant_id).select_related("model__publisher")

    @display(description=gettext_lazy("Status"), ordering="status", label=STATUS_COLOURS)
    def shown_status(self, version: ModelVersion) -> tuple[str, str]:
        return version.status, self.state(version)

    @display(description=gettext_lazy("Status"))
    def state(self, version: ModelVersion) -> str:
        under_way = version.model.releasing_version_id == version.pk
        return _("Being loaded") if under_way else version.get_status_display()

    @display(description=gettext_lazy("Format"), ordering="format")
    def shown_format(self, version: ModelVersion) -> str | None:
        """None until the checks have found out, and when they could not."""
        if version.status in (ModelVersionStatus.VALIDATING, ModelVersionStatus.REJECTED):
            steps = version.report.get("steps", ())
            if not any(step["name"] == "format" and step["status"] == "passed" for step in steps):
                return None
        return version.get_format_display()

    @display(description=gettext_lazy("Size"), ordering="size_bytes")
    def size(self, version: ModelVersion) -> str:
        return filesizeformat(version.size_bytes)

    @display(description=gettext_lazy("SHA-256"))
    def checksum(self, version: ModelVersion) -> str:
        """With places to break the line, for narrow screens."""
        parts = [(version.sha256[start : start + 16],) for start in range(0, 64, 16)]
        return format_html_join(mark_safe("<wbr>"), "{}", parts)

    @display(description=gettext_lazy("Largest batch"))
    def largest_batch(self, version: ModelVersion) -> str:
        return str(version.max_batch_size) if version.max_batch_size else _("one request at a time")

    def offered(self, row: ModelVersion) -> set[str]:
        around = {"steps"} if row.format == ArtifactFormat.ONNX else set()
        match row.status:
            case ModelVersionStatus.READY:
                beside_live = {"canary", "shadow"} if row.model.live_version_id else set()
                promotion = {"promote"} if row.model.canary_version_id == row.pk else set()
                return {"release", "describe", "configure", "deprecate", "retire"} | around | beside_live | promotion
            case ModelVersionStatus.LIVE:
                return {"describe", "configure", "deprecate"} | around
            case ModelVersionStatus.DRAFT | ModelVersionStatus.REJECTED:
                return {"retire"}
        return set()

    def shown_of(self, row: ModelVersion) -> dict[str, Any]:
        pinned_by = ModelSubscription.objects.current().filter(pinned_version=row)
        return {
            "report": report_of(row),
            "state": self.shown_status(row),
            "comparisons": comparisons_of(row),
            "deployments": _deployments(row),
            "pinned_by": pinned_by.select_related("tenant").order_by("tenant__name")[:MOST_PINNED],
            "more_pinned": max(pinned_by.count() - MOST_PINNED, 0),
        }

    @action(description=gettext_lazy("Checks"), url_path="report")
    def report(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """How far the checks are, for the page that shows it; the whole page anew once they have ended."""
        row = self.get_object(request, object_id)
        if row is None:
            missing: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return missing
        told = report_of(row)
        answer = TemplateResponse(request, "publish/report.html", {"original": row, "report": told})
        if not told.under_way:
            answer["HX-Refresh"] = "true"
        return answer

    @action(
        description=gettext_lazy("Release"), url_path="release", icon="rocket_launch", variant=ActionVariant.PRIMARY
    )
    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Release this version? It takes the live version's place once it is loaded and warm."),
            act=lambda version: releases.release(principal_of(request), version_id=version.pk),
            done=_("It is being released: it goes live once it is loaded and warm."),
        )

    @action(description=gettext_lazy("Promote"), url_path="promote", variant=ActionVariant.PRIMARY)
    def promote(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Promote the canary? It answers everybody from now on."),
            act=lambda version: releases.promote_canary(principal_of(request), model_ref=version.model.ref),
            done=_("The canary is live."),
        )

    @action(description=gettext_lazy("Canary"), url_path="canary")
    def canary(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=CanaryQuestion,
            title=_("Set canary"),
            explanation=_(
                "This share of the tenants that name no version gets this version's answers, always the same tenants. "
                "A larger share only adds tenants. 0 ends it. Roll back, on the model's page, ends it too."
            ),
            act=lambda version, given: (
                releases.set_canary(
                    principal_of(request), model_ref=version.model.ref, version_id=version.pk, percent=given["percent"]
                )
                and version
            ),
            done=_("The canary's share is set; a version that is not loaded yet begins once it is."),
        )

    @action(description=gettext_lazy("Shadow"), url_path="shadow")
    def shadow(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=ShadowQuestion,
            title=_("Set shadow"),
            explanation=_(
                "This share of the calls that the live version answers is asked of this version too. Its answers are "
                "compared with the live one's and thrown away; nobody waits for them, and nobody is charged. 0 ends it."
            ),
            act=lambda version, given: (
                releases.set_shadow(
                    principal_of(request), model_ref=version.model.ref, version_id=version.pk, percent=given["percent"]
                )
                and version
            ),
            done=_("The shadow's share is set."),
        )

    @action(description=gettext_lazy("Add steps"), url_path="steps")
    def steps(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=StepsQuestion,
            title=_("Make a new version"),
            explanation=_(
                "Callers send a picture or a text, and get labels, where this version takes and gives numbers. The "
                "new version is checked like an upload, and released when you say so."
            ),
            act=lambda version, given: compose(principal_of(request), version, given),
            done=_("The new version is being checked."),
        )

    @action(description=gettext_lazy("Describe"), url_path="describe")
    def describe(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=TensorsQuestion,
            title=_("Save the descriptions"),
            explanation=_("None of it changes how the version answers: it says what its tensors mean to people."),
            act=lambda version, given: descriptions.describe(
                principal_of(request),
                version_id=version.pk,
                tensors=_described(version, given),
                release_notes=given["release_notes"],
            ),
            done=_("The descriptions are saved."),
            template="publish/tensors.html",
        )

    @action(description=gettext_lazy("Settings"), url_path="configure")
    def configure(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=SettingsQuestion,
            title=_("Save the settings"),
            explanation=_("Each server goes on answering as before until it has the version loaded like this."),
            act=lambda version, given: _configured(principal_of(request), version, given),
            done=_("The settings are saved: each server loads it like this, and then takes it."),
        )

    @action(description=gettext_lazy("Deprecate"), url_path="deprecate")
    def deprecate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=SunsetQuestion,
            title=_("Deprecate"),
            explanation=_("Whoever calls it is told with every answer, in headers that clients understand."),
            act=lambda version, given: releases.deprecate(
                principal_of(request), version_id=version.pk, sunset_at=given["sunset"]
            ),
            done=_("The version is deprecated."),
        )

    @action(description=gettext_lazy("Retire"), url_path="retire", icon="block", variant=ActionVariant.DANGER)
    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Retire this version for good? Nobody can call it any more."),
            act=lambda version: releases.retire(principal_of(request), version_id=version.pk),
            done=_("The version is retired."),
        )


def _deployments(version: ModelVersion) -> list[tuple[str, Any]]:
    """Each with a name for its server, whose address is the operator's."""
    servers = {url: f"triton-{number}" for number, url in enumerate(settings.TRITON_URLS, 1)}
    # Whose model is in a room above, which may not be imported here: the rows come by way of the relation.
    rows = getattr(version, "deployments").order_by("endpoint", "id")  # noqa: B009
    return [(servers.get(row.endpoint, "triton-gone"), row) for row in rows]


def _configured(principal: Principal, version: ModelVersion, given: dict[str, Any]) -> ModelVersion:
    proposed = configuration.proposed(principal, version_id=version.pk, **given)
    if given["max_batch_size"] not in (0, version.max_batch_size):
        async_to_sync(import_string(settings.MERGING_TRIAL))(proposed)
    return configuration.configure(principal, version_id=version.pk, **given)


def _described(version: ModelVersion, given: dict[str, Any]) -> list[Description]:
    names = ("content_type", "labels", "example", "example_shape")
    return [
        Description(
            direction=Direction(tensor.direction),
            name=tensor.name,
            **{name: given[f"{name}_{number}"] for name in names},
        )
        for number, tensor in enumerate(version.tensors.all())
    ]
