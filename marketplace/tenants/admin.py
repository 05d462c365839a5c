"""Tenants, people and keys, for the operator."""

from typing import Any, cast

from allauth.account.models import EmailAddress
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.decorators import action

from marketplace.console import ConsoleAdmin, ReadOnlyAdmin

from . import applications
from .actions import found_tenant
from .models import ApiKey, ApplicationStatus, Membership, PublisherApplication, Tenant, User

# Groups carry grants between tenants, and addresses belong to who signs in: neither is edited by hand.
admin.site.unregister([Group, EmailAddress])


class MembershipInline(TabularInline):  # type: ignore[misc]  # unfold ships no types
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Tenant)
class TenantAdmin(ConsoleAdmin):
    list_display = ("name", "slug", "is_publisher", "created_at")
    list_filter = ("is_publisher",)
    search_fields = ("name", "slug")
    ordering = ("-pk",)
    inlines = (MembershipInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        # Clients call models by the slug of their publisher.
        return ("slug", "created_at") if obj else ()

    def save_model(self, request: HttpRequest, obj: Tenant, form: "forms.ModelForm[Tenant]", change: bool) -> None:
        if change:
            obj.save()
            return
        founded = found_tenant(name=obj.name, slug=obj.slug, owner=None, is_publisher=obj.is_publisher)
        obj.pk, obj.group, obj.created_at = founded.pk, founded.group, founded.created_at
        obj._state.adding = False

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False


@admin.register(PublisherApplication)
class PublisherApplicationAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "status", "website", "created_at", "decided_at", "decided_by")
    list_filter = ("status",)
    list_select_related = ("tenant", "decided_by")
    search_fields = ("tenant__slug", "tenant__name")
    fields = (
        *("tenant", "status", "about", "website", "applied_by", "created_at"),
        *("reason", "decided_by", "decided_at"),
    )
    readonly_fields = fields
    ordering = ("-pk",)
    actions_detail = ("approve", "decline")

    @action(description=_("Approve"), url_path="approve", icon="check", permissions=["review"])
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=gettext("Approve? The tenant's members publish models from now on."),
            act=lambda row, _reason: applications.approve(cast(User, request.user), application_id=row.pk),
            done=gettext("The tenant is a publisher."),
        )

    @action(description=_("Decline"), url_path="decline", icon="close", permissions=["review"])
    def decline(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.decided(
            request,
            object_id,
            question=gettext("Decline? The tenant may ask again."),
            reason=gettext("Why: the tenant reads it."),
            act=lambda row, reason: applications.decline(
                cast(User, request.user), application_id=row.pk, reason=reason
            ),
            done=gettext("The application is declined."),
        )

    def has_review_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("tenants.change_tenant")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        application = self.get_object(request, object_id)
        waits = application is not None and application.status == ApplicationStatus.PENDING
        return super().get_actions_detail(request, object_id) if waits else []


@admin.register(User)
class UserAdmin(ConsoleAdmin):
    list_display = ("email", "display_name", "is_active", "is_staff", "date_joined")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email", "display_name")
    ordering = ("-pk",)
    fields = ("email", "display_name", "is_active", "is_staff", "is_superuser", "user_permissions", "date_joined")
    filter_horizontal = ("user_permissions",)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        # Who may edit people may not make an operator of anybody, nor of themselves.
        powers = () if request.user.is_superuser else ("is_staff", "is_superuser", "user_permissions")
        return ("email", "date_joined", *powers)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and (obj is None or not obj.is_superuser or bool(request.user.is_superuser))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(ConsoleAdmin):
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__email", "tenant__slug")
    autocomplete_fields = ("user", "tenant")
    ordering = ("-pk",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("prefix", "name", "tenant", "role", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("role", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("prefix", "name", "tenant__slug")
    fields = (
        "prefix",
        "name",
        "tenant",
        "created_by",
        "role",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    ordering = ("-pk",)
    actions = ("revoke",)

    @admin.action(description=_("Revoke the chosen keys"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        count = keys.filter(revoked_at=None).update(revoked_at=timezone.now())
        self.message_user(
            request, ngettext("%(count)d key revoked.", "%(count)d keys revoked.", count) % {"count": count}
        )

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tenants.change_apikey")
