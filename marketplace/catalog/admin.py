"""The catalogue, for the operator to look at. Publishers write it."""

from django.contrib import admin

from marketplace.console import ReadOnlyAdmin, ReadOnlyInline

from .models import MLModel, ModelVersion, TensorSpec


@admin.register(MLModel)
class MLModelAdmin(ReadOnlyAdmin):
    list_display = ("display_name", "name", "publisher", "task", "visibility", "subscriber_count", "updated_at")
    list_filter = ("visibility", "task")
    list_select_related = ("publisher",)
    search_fields = ("name", "display_name", "publisher__slug")
    ordering = ("-pk",)
    exclude = ("search_vector", "search_text")
    readonly_fields = ("live_version", "releasing_version", "subscriber_count")


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
