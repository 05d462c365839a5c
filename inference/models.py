"""Where versions run: what each Triton server is asked to have loaded, and what it was last seen to have."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from marketplace.catalog.models import ModelVersion


class DeploymentStatus(models.TextChoices):
    PENDING = "PENDING", _("Pending")
    READY = "READY", _("Ready")
    FAILED = "FAILED", _("Failed")


class Deployment(models.Model):
    """One version on one endpoint (`endpoint` is a Triton server's gRPC address). The reconciler writes it."""

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="deployments")
    endpoint = models.CharField(_("endpoint"), max_length=255)
    status = models.CharField(
        _("status"), max_length=8, choices=DeploymentStatus.choices, default=DeploymentStatus.PENDING
    )
    error = models.TextField(_("error"), blank=True)
    failures = models.PositiveSmallIntegerField(_("failed attempts"), default=0)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        constraints = [
            models.UniqueConstraint(fields=["version", "endpoint"], name="one_deployment_per_version_and_endpoint")
        ]

    def __str__(self) -> str:
        return f"{self.version} @ {self.endpoint}: {self.status}"


class Heartbeat(models.Model):
    """When a worker last ran a task, which proves beat, broker and worker in one."""

    service = models.CharField(max_length=32, primary_key=True)
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return f"{self.service} {self.seen_at:%c}"
