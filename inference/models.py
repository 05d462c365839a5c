"""Where versions run: what each Triton server is asked to have loaded, and what it was last seen to have."""

from typing import Any

from django.db import models
from django.db.models import Exists, Q
from django.utils.translation import gettext_lazy as _

from marketplace.access import Principal
from marketplace.catalog.models import ModelVersion
from marketplace.tenants.models import User


class DeploymentStatus(models.TextChoices):
    """PENDING is being loaded, or waits for its turn; DRAINING takes no new calls and is unloaded after the last one;
    COLD was unloaded for want of memory, and is loaded when somebody calls it."""

    PENDING = "PENDING", _("Pending")
    READY = "READY", _("Ready")
    FAILED = "FAILED", _("Failed")
    DRAINING = "DRAINING", _("Draining")
    COLD = "COLD", _("Cold")


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def visible_to(self, principal: Principal) -> "DeploymentQuerySet":
        """To a version's publisher, and to the operator."""
        if principal.tenant_id is None and principal.user_id is None:
            return self.none()
        operator = User.objects.filter(pk__in=[principal.user_id], is_staff=True)
        return self.filter(Exists(operator) | Q(version__model__publisher=principal.tenant_id))


class Deployment(models.Model):
    """One version on one endpoint (`endpoint` is a Triton server's gRPC address). The reconciler writes it.

    There are two while its settings change: the new one is READY before the old one, under another `name`, is DRAINING.
    """

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="deployments")
    endpoint = models.CharField(_("endpoint"), max_length=255)
    # The version's `triton_name` with the settings that it was loaded with.
    name = models.CharField(_("name at Triton"), max_length=96)
    status = models.CharField(
        _("status"), max_length=8, choices=DeploymentStatus.choices, default=DeploymentStatus.PENDING
    )
    error = models.TextField(_("error"), blank=True)
    failures = models.PositiveSmallIntegerField(_("failed attempts"), default=0)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)
    loaded_at = models.DateTimeField(_("loaded since"), null=True)
    # How long it took to load, in seconds.
    load_seconds = models.FloatField(_("loading took"), null=True)
    # Estimated, or measured where Triton runs beside us.
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    # That Triton ran it in when it was loaded; 0 where they cannot be seen. When there are fewer, it is dead.
    processes = models.PositiveSmallIntegerField(_("processes"), default=0)
    # As Triton has it, to the minute.
    used_at = models.DateTimeField(_("last used"), null=True)
    # Since when a caller waits for it.
    wanted_at = models.DateTimeField(_("waited for since"), null=True)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "name"], name="one_deployment_per_endpoint_and_name"),
            models.UniqueConstraint(
                fields=["version", "endpoint"], condition=Q(status="READY"), name="one_deployment_takes_the_calls"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} @ {self.endpoint}: {self.status}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.name = self.name or self.version.triton_name
        super().save(*args, **kwargs)


class Heartbeat(models.Model):
    """When a worker last ran a task, which proves beat, broker and worker in one."""

    service = models.CharField(max_length=32, primary_key=True)
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return f"{self.service} {self.seen_at:%c}"


class UsageReconciliation(models.Model):
    """One version's calls as Triton's own counters have them, against ours (reconciliation.py).

    `delivered` is Triton's count over all endpoints and loads; `released` counts our releases by their reason;
    `shadowed` are calls that shadows.py made of it, which nobody pays for. `uncounted` are calls that we settled and
    that a counter had which ended before anybody asked it. `drift` above zero are calls that Triton delivered and that
    are none of ours; below zero, calls settled that it never delivered.
    """

    version = models.OneToOneField(ModelVersion, on_delete=models.CASCADE, primary_key=True, related_name="usage")
    since = models.DateTimeField(_("since"))
    checked_at = models.DateTimeField(_("last checked"), null=True)
    delivered = models.BigIntegerField(_("delivered by Triton"), default=0)
    cached = models.BigIntegerField(_("from its cache"), default=0)
    failed = models.BigIntegerField(_("failed at Triton"), default=0)
    settled = models.BigIntegerField(_("settled by us"), default=0)
    released = models.JSONField(_("released by us"), default=dict)
    in_flight = models.BigIntegerField(_("in flight"), default=0)
    shadowed = models.BigIntegerField(_("asked as a shadow"), default=0)
    uncounted = models.BigIntegerField(_("lost in restarts"), default=0)
    drift = models.BigIntegerField(_("unexplained drift"), default=0)
    drift_since = models.DateTimeField(_("drifting since"), null=True)
    reported = models.BigIntegerField(_("drift last logged"), default=0)
    # How many calls more the next check may count as lost: those that were under way when a counter ended or began.
    doubtful = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("usage reconciliation")
        verbose_name_plural = _("usage reconciliations")

    def __str__(self) -> str:
        return str(self.version)

    @property
    def undelivered(self) -> int:
        """Calls that we released: Triton may have finished each of them all the same, or never have seen it."""
        return sum(self.released.values())


class TritonCounter(models.Model):
    """One load of a version at one endpoint, as Triton's statistics last had it. Goes when the load has ended."""

    id = models.BigAutoField(primary_key=True)
    usage = models.ForeignKey(UsageReconciliation, on_delete=models.CASCADE, related_name="counters")
    endpoint = models.CharField(_("endpoint"), max_length=255)
    # Triton's number of the version, which is when the reconciler loaded it, in milliseconds since 1970.
    load = models.BigIntegerField(_("load"))
    succeeded = models.BigIntegerField(_("succeeded"), default=0)
    cached = models.BigIntegerField(_("from the cache"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    last_call_at = models.DateTimeField(_("last call"), null=True)
    # What we had settled of the version by then: whatever we settled later, it may have counted unread.
    settled = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("Triton counter")
        verbose_name_plural = _("Triton counters")
        constraints = [models.UniqueConstraint(fields=["usage", "endpoint", "load"], name="one_counter_per_load")]

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.succeeded}"


class Watermark(models.Model):
    """Of a job that counts on from where it last stopped: everything from `since` until `reached` is counted."""

    job = models.CharField(max_length=32, primary_key=True)
    since = models.DateTimeField()
    reached = models.DateTimeField()

    class Meta:
        verbose_name = _("watermark")
        verbose_name_plural = _("watermarks")

    def __str__(self) -> str:
        return f"{self.job} {self.reached:%c}"


class ShadowComparisonQuerySet(models.QuerySet["ShadowComparison"]):
    def visible_to(self, principal: Principal) -> "ShadowComparisonQuerySet":
        """To the model's publisher."""
        return self.filter(shadow__model__publisher_id=principal.tenant_id) if principal.tenant_id else self.none()


class ShadowComparison(models.Model):
    """How a shadow's answers compare with the live version's (shadows.py).

    Calls are `asked`; of those compared, `shadow_ms` and `live_ms` are how long both took together, in milliseconds.
    A process that dies leaves calls of its last second that were asked and are not counted any further.
    """

    id = models.BigAutoField(primary_key=True)
    shadow = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="comparisons")
    live = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="+")
    asked = models.BigIntegerField(_("asked"), default=0)
    equal = models.BigIntegerField(_("equal"), default=0)
    close = models.BigIntegerField(_("close"), default=0)
    different = models.BigIntegerField(_("different"), default=0)
    mismatched = models.BigIntegerField(_("of another form"), default=0)
    failed = models.BigIntegerField(_("failed"), default=0)
    dropped = models.BigIntegerField(_("dropped"), default=0)
    shadow_ms = models.FloatField(default=0)
    live_ms = models.FloatField(default=0)
    max_difference = models.FloatField(_("largest difference"), null=True)
    since = models.DateTimeField(_("since"))
    updated_at = models.DateTimeField(_("updated"))

    objects = ShadowComparisonQuerySet.as_manager()

    class Meta:
        verbose_name = _("shadow comparison")
        verbose_name_plural = _("shadow comparisons")
        constraints = [models.UniqueConstraint(fields=["shadow", "live"], name="one_comparison_per_pair")]

    def __str__(self) -> str:
        return f"{self.shadow} beside {self.live}"

    @property
    def compared(self) -> int:
        return self.equal + self.close + self.different + self.mismatched
