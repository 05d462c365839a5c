"""Who comes in, what the menu and the first page show, and the ground that every page of the panel stands on."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.access import Permission, Principal
from marketplace.catalog.models import MLModel, ModelVersion, ModelVersionStatus
from marketplace.console import Console, ConsoleAdmin
from marketplace.errors import MarketplaceError
from marketplace.subscriptions import usage
from marketplace.subscriptions.models import (
    MeteredUnit,
    ModelSubscription,
    ModelSubscriptionRequest,
    ModelSubscriptionStatus,
    Plan,
)
from marketplace.tenants.authentication import principal_from_session
from marketplace.tenants.models import Tenant

from .questions import Question


def may_publish(request: HttpRequest) -> bool:
    principal = principal_of(request)
    return principal.is_publisher and principal.can(Permission.PUBLISH)


def principal_of(request: HttpRequest) -> Principal:
    """Looked up once per request, of which each page asks many times."""
    remembered = cast(Any, request)
    if not hasattr(remembered, "publishing_principal"):
        remembered.publishing_principal = principal_from_session(request)
    return cast(Principal, remembered.publishing_principal)


class PublisherSite(Console):
    site_title = gettext_lazy("Publisher")
    index_title = gettext_lazy("Overview")
    index_template = "publish/index.html"
    refusal = gettext_lazy("This part of the site is for tenants that publish models, and for their developers.")

    def has_permission(self, request: HttpRequest) -> bool:
        """Who publishes, and who looks after the money: for usage and revenue."""
        principal = principal_of(request)
        return principal.is_publisher and usage.may_see(principal)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        tenant = Tenant.objects.visible_to(principal_of(request)).first()
        return super().each_context(request) | {
            "site_title": self.site_title,
            "site_header": tenant.name if tenant else self.site_title,
            "site_subheader": self.site_title,
            "site_symbol": "storefront",
        }

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        overview = reverse(f"{self.name}:index")
        pages = [(_("Overview"), overview, "dashboard", request.path == overview)]
        for model, page in self._registry.items():
            if not page.has_module_permission(request):
                continue
            link = reverse(f"{self.name}:{model._meta.app_label}_{model._meta.model_name}_changelist")
            pages.append((capfirst(model._meta.verbose_name_plural), link, page.icon, request.path.startswith(link)))
        return [
            {
                "items": [
                    {"title": title, "link": link, "icon": icon, "active": here, "has_permission": True}
                    for title, link, icon, here in pages
                ]
            }
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not may_publish(request):
            return HttpResponseRedirect(reverse(f"{self.name}:subscriptions_dailyusage_changelist"))
        principal = principal_of(request)
        models_ = MLModel.objects.filter(publisher_id=principal.tenant_id)
        contracts = ModelSubscription.objects.of_publisher(principal)
        counts = {
            "models": models_.count(),
            "live": models_.filter(live_version__isnull=False).count(),
            "subscribers": contracts.filter(status=ModelSubscriptionStatus.ACTIVE).count(),
            "requests": ModelSubscriptionRequest.objects.of_publisher(principal).pending().count(),
        }
        versions = ModelVersion.objects.filter(model__publisher_id=principal.tenant_id).select_related("model")
        waiting = versions.filter(status=ModelVersionStatus.READY).filter(
            Q(model__live_version=None) | Q(released_at=None)
        )
        return super().index(
            request,
            {
                "counts": counts,
                "waiting": waiting.order_by("-id")[:5],
                "newest": contracts.select_related("tenant", "model", "plan").order_by("-created_at", "-id")[:5],
                **(extra_context or {}),
            },
        )


publisher_site = PublisherSite(name="publish")


def shown(number: Decimal) -> str:
    """Without the zeros that only say how many digits the column has."""
    return number_format(number.normalize(), force_grouping=True)


# What a plan counts, as in "1,000 calls" and "0.01 USD a call".
UNITS: dict[str, Promise] = {
    MeteredUnit.CALL: gettext_lazy("calls"),
    MeteredUnit.ELEMENT: gettext_lazy("elements of the input"),
    MeteredUnit.SECOND: gettext_lazy("seconds of compute"),
    MeteredUnit.TOKEN: gettext_lazy("tokens"),
}
PER_UNIT: dict[str, Promise] = {
    MeteredUnit.CALL: gettext_lazy("per call"),
    MeteredUnit.ELEMENT: gettext_lazy("per element of the input"),
    MeteredUnit.SECOND: gettext_lazy("per second of compute"),
    MeteredUnit.TOKEN: gettext_lazy("per token"),
}


def shown_units(plan: Plan, number: Decimal) -> str:
    return f"{shown(number)} {UNITS[plan.unit]}"


class PanelAdmin(ConsoleAdmin):
    """A page of the panel. `own` is all it ever reads, so that a foreign id answers as one that does not exist.

    Who publishes may look at everything that is their tenant's; what they may do is for the actions to say.
    """

    icon = ""
    empty_state = gettext_lazy("There is nothing here yet.")
    list_before_template = "publish/empty.html"

    def own(self, principal: Principal) -> models.QuerySet[Any]:
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        if not self.has_view_permission(request):
            raise PermissionDenied(publisher_site.refusal)
        return self.own(principal_of(request)).order_by(*self.ordering)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return may_publish(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def _opened(self, request: HttpRequest, object_id: str) -> Any:
        # Whose pages the links in the page's head lead to; Django's own views say so themselves.
        cast(Any, request).current_app = publisher_site.name
        return self.get_object(request, object_id)

    def page_of(self, row: models.Model) -> str:
        return reverse(f"{publisher_site.name}:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])

    def asked(
        self,
        request: HttpRequest,
        object_id: str,
        *,
        question: type[Question],
        act: Callable[[Any, dict[str, Any]], models.Model],
        done: str,
        title: str,
        explanation: str,
        template: str = "publish/question.html",
    ) -> HttpResponse:
        """Asks in a form (GET), then acts (POST), says how it went, and shows the page of the row that `act` gives.

        What the action refuses is shown in the form, at its field.
        """
        row = self._opened(request, object_id)
        if row is None:
            missing: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return missing
        form = question(row, request.POST, request.FILES) if request.method == "POST" else question(row)
        if form.is_valid():
            try:
                shown = act(row, form.cleaned_data)
            except MarketplaceError as problem:
                form.blame(problem)
            else:
                messages.success(request, done)
                return HttpResponseRedirect(self.page_of(shown))
        context = publisher_site.each_context(request) | {
            "title": title,
            "explanation": explanation,
            "form": form,
            "original": row,
            "back": self.page_of(row),
            "opts": self.opts,
        }
        return TemplateResponse(request, template, context)

    def confirmed(
        self, request: HttpRequest, object_id: str, *, question: str, act: Callable[[Any], object], done: str
    ) -> HttpResponse:
        """As `decided`, without a reason."""
        return self.decided(request, object_id, question=question, act=lambda row, _reason: act(row), done=done)
