"""What people read in the place of the API's enum values."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

TASKS: dict[str, Promise] = {
    "TEXT_EMBEDDING": _("Text embedding"),
    "TEXT_CLASSIFICATION": _("Text classification"),
    "TEXT_GENERATION": _("Text generation"),
    "IMAGE_CLASSIFICATION": _("Image classification"),
    "OBJECT_DETECTION": _("Object detection"),
    "OCR": _("Text recognition (OCR)"),
    "AUDIO_CLASSIFICATION": _("Audio classification"),
    "SPEECH_RECOGNITION": _("Speech recognition"),
    "TABULAR_CLASSIFICATION": _("Tabular classification"),
    "TABULAR_REGRESSION": _("Tabular regression"),
    "FORECASTING": _("Forecasting"),
    "OTHER": _("Other"),
}
ORDERS: dict[str, Promise] = {
    "RELEVANCE": _("Best match"),
    "POPULARITY": _("Most used"),
    "NEWEST": _("Newest"),
    "NAME": _("Name"),
}
ROLES: dict[str, Promise] = {
    "OWNER": _("Owner"),
    "ADMIN": _("Administrator"),
    "DEVELOPER": _("Developer"),
    "BILLING": _("Billing"),
    "VIEWER": _("Viewer"),
}
STATUSES: dict[str, Promise] = {
    "ACTIVE": _("Active"),
    "CANCELLED": _("Cancelled"),
    "SUSPENDED": _("Suspended"),
    "QUEUED": _("Queued"),
    "RUNNING": _("Running"),
    "SUCCEEDED": _("Succeeded"),
    "FAILED": _("Failed"),
    "DRAFT": _("Draft"),
    "VALIDATING": _("Validating"),
    "REJECTED": _("Rejected"),
    "READY": _("Ready"),
    "LIVE": _("Live"),
    "RETIRED": _("Retired"),
}
# Of a plan, what a price is for.
PER_UNIT: dict[str, Promise] = {
    "CALL": _("per call"),
    "ELEMENT": _("per element of the input"),
    "SECOND": _("per second of compute"),
    "TOKEN": _("per token"),
}
LABELS = TASKS | ORDERS | ROLES | STATUSES
