"""What the two consoles share, the operator's at /admin/ and the publisher's at /publish/: both are django-unfold."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, reverse
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.paginator import InfinitePaginator
from unfold.sites import UnfoldAdminSite

from .errors import MarketplaceError

# Unfold's Alpine compiles the expressions in its attributes, and its theme is a style element.
UNFOLD_NEEDS = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [UNSAFE_INLINE]}

View = Callable[..., HttpResponse]


class Console(UnfoldAdminSite):  # type: ignore[misc]  # unfold's types are not followed
    """An admin site without a sign-in of its own: nobody is sent to the site's, somebody else is refused."""

    refusal = _("This part of the site is the operator's.")
    left_out = frozenset({"password_change", "password_change_done", "view_on_site"})

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in self.left_out]

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        guarded = super().admin_view(view, cacheable)

        @csp_update(UNFOLD_NEEDS)
        @wraps(guarded)
        def admitted(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if self.has_permission(request):
                return guarded(request, *args, **kwargs)
            return self._refuse(request, request.get_full_path())

        return admitted

    def _refuse(self, request: HttpRequest, wanted: str) -> HttpResponse:
        if request.user.is_authenticated:
            raise PermissionDenied(self.refusal)
        return redirect_to_login(wanted)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        index = reverse("admin:index", current_app=self.name)
        return HttpResponseRedirect(index) if self.has_permission(request) else self._refuse(request, index)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return LogoutView.as_view(next_page="/")(request)

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Nothing: unfold's finds only what the menu shows, and remembers it for the other console too."""
        return HttpResponse()

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        """One group of links per room, as unfold's navigation wants them."""
        return [
            {
                "title": app["name"],
                "items": [
                    {
                        "title": model["name"],
                        "link": model["admin_url"],
                        "active": request.path.startswith(model["admin_url"]),
                        "has_permission": True,
                    }
                    for model in app["models"]
                    if model["admin_url"]
                ],
            }
            for app in self.get_app_list(request)
        ]


class StaffSite(Console):
    site_header = site_title = _("Operator")
    index_title = _("Everything")
    site_symbol = "shield_person"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return super().each_context(request) | {
            "site_header": self.site_header,
            "site_title": self.site_title,
            "site_symbol": self.site_symbol,
        }


class ConsoleAdmin(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    """Lists that never count all rows of a table."""

    show_full_result_count = False
    list_per_page = 50
    warn_unsaved_form = True

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """A list cannot be filtered by what PostgreSQL cannot hold. Django looks at what is searched for itself."""
        if any("\0" in value for name, values in request.GET.lists() for value in values if name != SEARCH_VAR):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def decided(
        self,
        request: HttpRequest,
        object_id: str,
        *,
        question: str,
        act: Callable[[Any, str], object],
        done: str,
        reason: str = "",
    ) -> HttpResponse:
        """Asks first (GET), then acts (POST) and says how it went, on the page of the object it was about.

        Or of the one that takes its place: what `act` gives, when it is of the same kind.

        `reason` says what a reason is asked for; what was typed is `act`'s second argument.
        """
        # Whose pages the links in the page's head lead to; Django's own views say so themselves.
        request.current_app = self.admin_site.name
        row = self.get_object(request, object_id)
        if row is None:
            missing: HttpResponse = self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            return missing
        site = self.admin_site
        change = f"{site.name}:{self.opts.app_label}_{self.opts.model_name}_change"
        page = reverse(change, args=[row.pk])
        typed, problem = request.POST.get("reason", ""), ""
        if request.method == "POST":
            try:
                changed = act(row, typed)
            except MarketplaceError as error:
                if not reason:
                    messages.error(request, error.message)
                    return HttpResponseRedirect(page)
                problem = error.message
            else:
                messages.success(request, done)
                return HttpResponseRedirect(
                    reverse(change, args=[(changed if isinstance(changed, self.model) else row).pk])
                )
        context = site.each_context(request) | {
            "title": str(row),
            "question": question,
            "reason": reason,
            "typed": typed,
            "problem": problem,
            "back": page,
            "opts": self.opts,
        }
        return TemplateResponse(request, "console/decide.html", context, status=422 if problem else 200)


class ReadOnlyAdmin(ConsoleAdmin):
    """Rows that only the product's own actions write."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class EndlessAdmin(ReadOnlyAdmin):
    """Tables of millions of rows, newest first by primary key: not even what a filter matches is counted."""

    paginator = InfinitePaginator
    ordering = ("-pk",)


class ReadOnlyInline(TabularInline):  # type: ignore[misc]
    hide_title = True
    extra = 0
    max_num = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False
