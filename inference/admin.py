"""Where versions run, for the operator to look at. The reconciler writes it."""

from django.contrib import admin

from marketplace.console import ReadOnlyAdmin

from .models import Deployment


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ("version", "endpoint", "status", "failures", "changed_at", "error")
    list_filter = ("status", "endpoint")
    list_select_related = ("version__model",)
    search_fields = ("version__model__name", "endpoint")
    ordering = ("-pk",)
