"""Who asks for a plan that is given on request, and what the publisher says to it."""

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action, display

from marketplace.access import Principal
from marketplace.publishing.approvals import approve_request, decline_request
from marketplace.subscriptions.models import ModelSubscriptionRequest, RequestStatus

from .controls import ControlledAdmin
from .site import principal_of, publisher_site


@admin.register(ModelSubscriptionRequest, site=publisher_site)
class RequestAdmin(ControlledAdmin):
    icon = "how_to_reg"
    list_display = ("tenant", "model", "plan", "shown_status", "created_at")
    list_filter = ("status",)
    search_fields = ("tenant__name", "tenant__slug", "model__name")
    ordering = ("-pk",)
    fields = ("tenant", "model", "plan", "status", "message", "created_at", "reason", "decided_at")
    readonly_fields = fields
    empty_state = gettext_lazy("Who asks for a plan that you give on request appears here.")
    actions_detail = ("approve", "decline")
    hints = {
        "approve": gettext_lazy("The tenant is subscribed from then on."),
        "decline": gettext_lazy("You say why; the tenant reads it, and may ask again."),
    }
    change_form_outer_before_template = "publish/controlled.html"

    def own(self, principal: Principal) -> models.QuerySet[ModelSubscriptionRequest]:
        rows = ModelSubscriptionRequest.objects.of_publisher(principal)
        return rows.select_related("tenant", "model", "plan")

    @display(
        description=gettext_lazy("Status"),
        ordering="status",
        label={RequestStatus.PENDING: "warning", RequestStatus.APPROVED: "success"},
    )
    def shown_status(self, request: ModelSubscriptionRequest) -> tuple[str, str]:
        return request.status, request.get_status_display()

    @action(description=gettext_lazy("Approve"), url_path="approve", icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=_("Approve this request? The tenant is subscribed from now on."),
            act=lambda asked, _reason: approve_request(principal_of(request), request_id=asked.pk),
            done=_("The request is approved."),
        )

    @action(description=gettext_lazy("Decline"), url_path="decline", icon="close")
    def decline(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=_("Decline this request? The tenant may ask again."),
            reason=_("Why: the tenant reads it."),
            act=lambda asked, reason: decline_request(principal_of(request), request_id=asked.pk, reason=reason),
            done=_("The request is declined."),
        )

    def offered(self, row: ModelSubscriptionRequest) -> set[str]:
        return set(self.hints) if row.status == RequestStatus.PENDING else set()
