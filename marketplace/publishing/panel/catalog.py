"""Models, as their publisher tends them."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from marketplace.access import Principal
from marketplace.catalog.models import MLModel, ModelVersion
from marketplace.publishing import releases, uploads

from .controls import ControlledAdmin
from .forms import MLModelForm
from .history import history_of
from .questions import UploadQuestion
from .site import may_publish, principal_of, publisher_site
from .tables import PanelInline, PlanInline, VersionInline


@admin.register(MLModel, site=publisher_site)
class MLModelAdmin(ControlledAdmin):
    form = MLModelForm
    icon = "deployed_code"
    list_display = ("display_name", "name", "shown_visibility", "live_number", "subscriber_count", "updated_at")
    list_filter = ("visibility", "task")
    search_fields = ("name", "display_name", "summary")
    ordering = ("-pk",)
    empty_state = gettext_lazy("A model is what tenants find in the catalogue. Add one, then its versions and plans.")
    actions_detail = ("upload", "rollback")
    hints = {
        "upload": gettext_lazy("The next version: an artefact, which is checked and then waits for you to release it."),
        "rollback": gettext_lazy(
            "Calls off a release or a canary that is under way; else the version that was live before is live again."
        ),
    }
    change_form_outer_before_template = "publish/model.html"
    change_form_outer_after_template = "publish/history.html"
    change_form_after_template = "publish/model_usage.html"

    def own(self, principal: Principal) -> models.QuerySet[MLModel]:
        return MLModel.objects.filter(publisher_id=principal.tenant_id).select_related(
            "publisher", "live_version", "releasing_version", "canary_version", "shadow_version"
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
        return may_publish(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may_publish(request)

    def save_model(self, request: HttpRequest, obj: MLModel, form: MLModelForm, change: bool) -> None:
        """The form's action has saved it."""

    def offered(self, row: MLModel) -> set[str]:
        under_way = row.live_version_id or row.releasing_version_id
        return {"upload", "rollback"} if under_way else {"upload"}

    def shown_of(self, row: MLModel) -> dict[str, Any]:
        return {"history": history_of(row)}

    @action(description=gettext_lazy("Upload a version"), url_path="upload", variant=ActionVariant.PRIMARY)
    def upload(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.asked(
            request,
            object_id,
            question=UploadQuestion,
            title=_("Upload"),
            explanation=_("It becomes the next version. Nothing changes for subscribers until you release it."),
            act=lambda model, given: self._submitted(request, model, given),
            done=_("The version is uploaded, and is being checked."),
            template="publish/upload.html",
        )

    def _submitted(self, request: HttpRequest, model: MLModel, given: dict[str, Any]) -> ModelVersion:
        principal, notes = principal_of(request), given["release_notes"]
        if given["upload"]:
            return uploads.submit(principal, upload_id=given["upload"], model_ref=model.ref, release_notes=notes)
        return uploads.submit_file(principal, content=given["file"], model_ref=model.ref, release_notes=notes)

    @action(description=gettext_lazy("Roll back"), url_path="rollback", icon="undo")
    def rollback(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.confirmed(
            request,
            object_id,
            question=_("Go back to the version that was live before the last release?"),
            act=lambda model: releases.rollback(principal_of(request), model_ref=model.ref),
            done=_("The last release is undone."),
        )
