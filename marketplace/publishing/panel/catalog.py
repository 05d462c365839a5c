"""Models and their versions, as their publisher tends them."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus, TensorSpec
from marketplace.console import ReadOnlyInline
from marketplace.publishing import releases
from marketplace.subscriptions.models import Plan

from .forms import MLModelForm
from .site import PanelAdmin, principal_of, publisher_site, shown, shown_units

STATUS_COLOURS = {
    ModelVersionStatus.LIVE: "success",
    ModelVersionStatus.READY: "info",
    ModelVersionStatus.REJECTED: "danger",
}


class PanelInline(ReadOnlyInline):
    per_page = 10

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return publisher_site.has_permission(request)


class VersionInline(PanelInline):
    model = ModelVersion
    fk_name = "model"
    fields = readonly_fields = ("version", "status", "format", "created_at", "released_at")
    ordering = ("-number",)

    @display(description=gettext_lazy("Version"))
    def version(self, version: ModelVersion) -> str:
        return _link("catalog_modelversion_change", version, str(version.number))


class PlanInline(PanelInline):
    model = Plan
    fields = readonly_fields = ("plan", "monthly", "units", "requests_per_second", "hidden_at")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Plan]:
        return super().get_queryset(request).filter(successor=None)

    @display(description=gettext_lazy("Plan"))
    def plan(self, plan: Plan) -> str:
        return _link("subscriptions_plan_change", plan, plan.name)

    @display(description=gettext_lazy("Price per month"))
    def monthly(self, plan: Plan) -> str:
        return f"{shown(plan.price)} {plan.currency}"

    @display(description=gettext_lazy("Included units"))
    def units(self, plan: Plan) -> str:
        return shown_units(plan, plan.included_units)


def _link(page: str, row: models.Model, text: str) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(f"publish:{page}", args=[row.pk]), text)


@admin.register(MLModel, site=publisher_site)
class MLModelAdmin(PanelAdmin):
    form = MLModelForm
    icon = "deployed_code"
    list_display = ("display_name", "name", "shown_visibility", "live_number", "subscriber_count", "updated_at")
    list_filter = ("visibility", "task")
    search_fields = ("name", "display_name", "summary")
    ordering = ("-pk",)
    empty_state = gettext_lazy("A model is what tenants find in the catalogue. Add one, then its versions and plans.")
    change_form_after_template = "publish/model_usage.html"
    actions_detail = ("rollback",)

    def own(self, principal: Principal) -> models.QuerySet[MLModel]:
        return MLModel.objects.filter(publisher_id=principal.tenant_id).select_related(
            "publisher", "live_version", "releasing_version"
        )

    @display(
        description=gettext_lazy("Visibility"), ordering="visibility", label={"PUBLIC": "success", "PRIVATE": "info"}
    )
    def shown_visibility(self, model: MLModel) -> tuple[str, str]:
        return model.visibility, model.get_visibility_display()

    @display(description=gettext_lazy("Live version"), empty_value="–")
    def live_number(self, model: MLModel) -> str | None:
        if model.releasing_version:
            return _("%(number)d is being loaded") % {"number": model.releasing_version.number}
        return str(model.live_version.number) if model.live_version else None

    def get_inlines(self, request: HttpRequest, obj: MLModel | None) -> tuple[type[PanelInline], ...]:
        return (VersionInline, PlanInline) if obj else ()

    def get_form(self, request: HttpRequest, obj: MLModel | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"principal": principal_of(request)})

    def get_readonly_fields(self, request: HttpRequest, obj: MLModel | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def get_fields(self, request: HttpRequest, obj: MLModel | None = None) -> tuple[str, ...]:
        return MLModelForm.Meta.fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return publisher_site.has_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return publisher_site.has_permission(request)

    def save_model(self, request: HttpRequest, obj: MLModel, form: MLModelForm, change: bool) -> None:
        """The form's action has saved it."""

    @action(description=gettext_lazy("Roll back"), url_path="rollback", icon="undo")
    def rollback(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Go back to the version that was live before the last release?"),
            act=lambda model: releases.rollback(principal_of(request), model_ref=model.ref),
            done=_("The last release is undone."),
        )


class TensorInline(PanelInline):
    model = TensorSpec
    fields = readonly_fields = ("direction", "name", "kind", "content_type")

    @display(description=gettext_lazy("Datatype and shape"))
    def kind(self, tensor: TensorSpec) -> str:
        return f"{tensor.datatype} {tensor.shape}"


@admin.register(ModelVersion, site=publisher_site)
class ModelVersionAdmin(PanelAdmin):
    icon = "commit"
    list_display = ("__str__", "shown_status", "format", "size", "created_at", "released_at")
    list_filter = ("status",)
    search_fields = ("model__name", "model__display_name", "sha256")
    ordering = ("-pk",)
    fields = ("model", "number", "state", "format", "checksum", "size", "release_notes", "created_at", "released_at")
    readonly_fields = ("state", "checksum", "size", "released_at")
    inlines = (TensorInline,)
    empty_state = gettext_lazy("A version is one artefact of a model, fixed for good.")
    actions_detail = ("release", "retire")

    def own(self, principal: Principal) -> models.QuerySet[ModelVersion]:
        return ModelVersion.objects.filter(model__publisher_id=principal.tenant_id).select_related("model")

    @display(description=gettext_lazy("Status"), ordering="status", label=STATUS_COLOURS)
    def shown_status(self, version: ModelVersion) -> tuple[str, str]:
        return version.status, self.state(version)

    @display(description=gettext_lazy("Status"))
    def state(self, version: ModelVersion) -> str:
        under_way = version.model.releasing_version_id == version.pk
        return _("Being loaded") if under_way else version.get_status_display()

    @display(description=gettext_lazy("Size"), ordering="size_bytes")
    def size(self, version: ModelVersion) -> str:
        return filesizeformat(version.size_bytes)

    @display(description=gettext_lazy("SHA-256"))
    def checksum(self, version: ModelVersion) -> str:
        """With places to break the line, for narrow screens."""
        parts = [(version.sha256[start : start + 16],) for start in range(0, 64, 16)]
        return format_html_join(mark_safe("<wbr>"), "{}", parts)

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

    @action(description=gettext_lazy("Retire"), url_path="retire", icon="block", variant=ActionVariant.DANGER)
    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Retire this version for good? Nobody can call it any more."),
            act=lambda version: releases.retire(principal_of(request), version_id=version.pk),
            done=_("The version is retired."),
        )

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """Only what this version's status allows."""
        version = self.get_object(request, object_id)
        allowed = {ModelVersionStatus.READY: {"release", "retire"}}.get(version.status, set()) if version else set()
        if version and version.status in {ModelVersionStatus.DRAFT, ModelVersionStatus.REJECTED}:
            allowed = {"retire"}
        return [button for button in super().get_actions_detail(request, object_id) if button.path in allowed]
