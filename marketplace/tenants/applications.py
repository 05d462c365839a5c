"""How a tenant becomes a publisher: its owners ask, the operator reviews."""

from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from marketplace.access import Permission, Principal
from marketplace.errors import NotFound, PermissionDenied, ValidationProblem
from marketplace.texts import checked_text

from .models import ApplicationStatus, PublisherApplication, Tenant, User


@transaction.atomic
def become_publisher(principal: Principal, *, about: str, website: str = "") -> PublisherApplication:
    """Asks the operator. Asking again while nobody has decided changes what is said; `website` is http(s), or empty."""
    principal.require(Permission.MANAGE_MEMBERS)
    assert principal.tenant_id is not None
    # The lock on the tenant's row holds back whoever decides at this moment.
    tenant = Tenant.objects.select_for_update().get(pk=principal.tenant_id)
    if tenant.is_publisher:
        raise ValidationProblem(_("Your tenant publishes already."), path="input")
    application = tenant.publisher_applications.filter(status=ApplicationStatus.PENDING).first()
    application = application or PublisherApplication(tenant=tenant)
    application.about = checked_text(
        about, path="input.about", required=_("Say who you are and what you want to publish.")
    )
    application.website, application.applied_by_id = website.strip(), principal.user_id
    try:
        application.clean_fields(exclude={"tenant", "applied_by", "decided_by"})
    except ValidationError as error:
        raise ValidationProblem(error.messages[0], path="input.website") from error
    application.save()
    return application


@transaction.atomic
def approve(staff: User, *, application_id: UUID) -> PublisherApplication:
    """The tenant publishes from now on. Approving twice changes nothing, and what was declined stays so."""
    application = _application(staff, application_id)
    if application.status == ApplicationStatus.APPROVED:
        return application
    _require_pending(application)
    Tenant.objects.filter(pk=application.tenant_id).update(is_publisher=True)
    return _decided(application, ApplicationStatus.APPROVED, staff)


@transaction.atomic
def decline(staff: User, *, application_id: UUID, reason: str) -> PublisherApplication:
    """The tenant reads the reason. Declining twice keeps the first one, and what was approved stays so."""
    application = _application(staff, application_id)
    if application.status == ApplicationStatus.DECLINED:
        return application
    _require_pending(application)
    application.reason = checked_text(reason, path="input.reason", required=_("Say why: the tenant reads it."))
    return _decided(application, ApplicationStatus.DECLINED, staff)


def _application(staff: User, application_id: UUID) -> PublisherApplication:
    """Locked, its tenant before it, as who asks does."""
    if not (staff.is_active and staff.is_staff and staff.has_perm("tenants.change_tenant")):
        raise PermissionDenied(_("Only operators who may change tenants review publishers."))
    found = PublisherApplication.objects.filter(pk=application_id)
    tenant = found.values_list("tenant", flat=True).first()
    if tenant is None:
        raise NotFound(_("There is no such object, or it is not yours to see."), path="input.publisherApplication")
    Tenant.objects.select_for_update().get(pk=tenant)
    return found.select_for_update().get()


def _require_pending(application: PublisherApplication) -> None:
    if application.status != ApplicationStatus.PENDING:
        raise ValidationProblem(
            _("This application is decided already: “%(status)s”.") % {"status": application.get_status_display()},
            path="input.publisherApplication",
        )


def _decided(application: PublisherApplication, status: ApplicationStatus, staff: User) -> PublisherApplication:
    application.status, application.decided_at, application.decided_by = status, timezone.now(), staff
    application.save(update_fields=["status", "reason", "decided_at", "decided_by"])
    return application
