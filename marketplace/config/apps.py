"""What Django starts with: the operator's site as its admin, and Celery in every process that may send a task."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class StaffAdminConfig(AdminConfig):
    default_site = "marketplace.console.StaffSite"


class CompositionConfig(AppConfig):
    name = "marketplace.config"

    def ready(self) -> None:
        from . import celery  # noqa: F401, PLC0415  (it reads the settings, which are not there any sooner)
