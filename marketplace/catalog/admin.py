"""The catalogue, for the operator to look at and to take models out of. Publishers write it."""

from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action

from marketplace.console import EndlessAdmin, ReadOnlyAdmin, ReadOnlyInline
from marketplace.tenants.models import User

from .models import MLModel, ModelVersion, ReleaseEvent, TensorSpec
from .takedowns import restore, take_down


@admin.register(MLModel)
class MLModelAdmin(ReadOnlyAdmin):
    list_display = (
        *("display_name", "name", "publisher", "task", "visibility"),
        *("subscriber_count", "updated_at", "taken_down_at"),
    )
    list_filter = ("visibility", "task", ("taken_down_at", admin.EmptyFieldListFilter))
    list_select_related = ("publisher",)
    search_fields = ("name", "display_name", "publisher__slug")
    ordering = ("-pk",)
    exclude = ("search_vector", "search_text")
    readonly_fields = ("live_version", "releasing_version", "subscriber_count", "taken_down_at", "takedown_reason")
    actions_detail = ("take_down", "restore")

    @action(description=gettext_lazy("Take down"), url_path="take-down", icon="gavel", permissions=["take_down"])
    def take_down(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=_(
                "Take this model down? From now on nobody can call it, and only its publisher and its subscribers see "
                "it. What runs is stopped within seconds."
            ),
            reason=_("Why: its publisher and its subscribers read it."),
            act=lambda model, reason: take_down(cast(User, request.user), model_id=model.pk, reason=reason),
            done=_("The model is taken down."),
        )

    @action(
        description=gettext_lazy("Restore"),
        url_path="restore",
        icon="settings_backup_restore",
        permissions=["take_down"],
    )
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=_("Restore this model? Everybody can see and call it as before."),
            act=lambda model, _reason: restore(cast(User, request.user), model_id=model.pk),
            done=_("The model is restored."),
        )

    def has_take_down_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("catalog.change_mlmodel")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        model = self.get_object(request, object_id)
        allowed = "restore" if model and model.taken_down_at else "take-down"
        return [button for button in super().get_actions_detail(request, object_id) if button.path == allowed]


class TensorInline(ReadOnlyInline):
    model = TensorSpec
    fields = ("direction", "name", "datatype", "shape", "content_type")


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("model", "number", "status", "format", "size_bytes", "created_at", "released_at")
    list_filter = ("status", "format")
    list_select_related = ("model",)
    search_fields = ("model__name", "sha256")
    ordering = ("-pk",)
    readonly_fields = ("released_at", "live_before")
    inlines = (TensorInline,)


@admin.register(ReleaseEvent)
class ReleaseEventAdmin(EndlessAdmin):
    list_display = ("at", "model", "kind", "version", "percent", "user", "reason")
    list_filter = ("kind",)
    list_select_related = ("model", "version__model", "user")
    search_fields = ("=model__name",)
