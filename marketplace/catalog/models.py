"""The catalogue: models, their immutable numbered versions, and the tensors each takes and gives."""

from uuid import UUID

import uuid_utils.compat as uuid
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVectorField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Func, Q, TextField
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from guardian.models import GroupObjectPermissionBase

from marketplace.tenants.models import Tenant

from .queries import MLModelQuerySet, ModelVersionQuerySet, ReleaseEventQuerySet

name_validator = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9._-]{0,94}[a-z0-9])?$",
    _("Use 1 to 96 lower-case letters, digits, dots, hyphens and underscores, a letter or digit at either end."),
)


class ModelTask(models.TextChoices):
    TEXT_EMBEDDING = "TEXT_EMBEDDING", _("Text embedding")
    TEXT_CLASSIFICATION = "TEXT_CLASSIFICATION", _("Text classification")
    TEXT_GENERATION = "TEXT_GENERATION", _("Text generation")
    IMAGE_CLASSIFICATION = "IMAGE_CLASSIFICATION", _("Image classification")
    OBJECT_DETECTION = "OBJECT_DETECTION", _("Object detection")
    OCR = "OCR", _("Text recognition (OCR)")
    AUDIO_CLASSIFICATION = "AUDIO_CLASSIFICATION", _("Audio classification")
    SPEECH_RECOGNITION = "SPEECH_RECOGNITION", _("Speech recognition")
    TABULAR_CLASSIFICATION = "TABULAR_CLASSIFICATION", _("Tabular classification")
    TABULAR_REGRESSION = "TABULAR_REGRESSION", _("Tabular regression")
    FORECASTING = "FORECASTING", _("Forecasting")
    OTHER = "OTHER", _("Other")


class Visibility(models.TextChoices):
    PUBLIC = "PUBLIC", _("Public")
    PRIVATE = "PRIVATE", _("Private")


class SearchVector(Func):
    """Weighted full text: names and tags, then the summary, then the card. Defined in migrations/search.sql."""

    function = "catalog_search_vector"
    output_field = SearchVectorField()


class SearchText(Func):
    """Names, tags and summary as one lower-case text, for trigrams. Defined in migrations/search.sql."""

    function = "catalog_search_text"
    output_field = TextField()


class MLModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    publisher = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="models", verbose_name=_("publisher"))
    name = models.CharField(
        _("name"), max_length=96, validators=[name_validator], help_text=_("The second half of publisher/name.")
    )
    display_name = models.CharField(_("title"), max_length=120)
    summary = models.CharField(_("summary"), max_length=300, help_text=_("One sentence: what it does, for whom."))
    card = models.TextField(_("card"), blank=True, max_length=100_000, help_text=_("Markdown: data, accuracy, limits."))
    task = models.CharField(_("task"), max_length=32, choices=ModelTask.choices, default=ModelTask.OTHER)
    tags = ArrayField(models.CharField(max_length=40), verbose_name=_("tags"), default=list, blank=True, size=20)
    license = models.CharField(_("licence"), max_length=64, help_text=_("An SPDX identifier, as in Apache-2.0."))
    visibility = models.CharField(_("visibility"), max_length=8, choices=Visibility.choices, default=Visibility.PRIVATE)
    live_version = models.ForeignKey(
        "ModelVersion", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    # The release under way: it takes the live version's place once every Triton has it loaded and warm, or becomes the
    # canary with this share.
    releasing_version = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    releasing_percent = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    # Answers this share of the tenants that name no version, always the same ones.
    canary_version = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    canary_percent = models.PositiveSmallIntegerField(_("canary's share in percent"), default=0, editable=False)
    # Is asked what the live version is asked, this often in a hundred; its answers are compared and thrown away.
    shadow_version = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    shadow_percent = models.PositiveSmallIntegerField(_("shadow's share in percent"), default=0, editable=False)
    # By the operator: nobody can call it, and only its publisher and its subscribers still see it.
    taken_down_at = models.DateTimeField(_("taken down"), null=True, blank=True, editable=False)
    takedown_reason = models.TextField(_("reason of the takedown"), blank=True, max_length=2000, editable=False)
    subscriber_count = models.PositiveIntegerField(_("subscribers"), default=0, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)
    search_vector = models.GeneratedField(
        expression=SearchVector(F("name"), F("display_name"), F("tags"), F("summary"), F("card")),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    search_text = models.GeneratedField(
        expression=SearchText(F("name"), F("display_name"), F("tags"), F("summary")),
        output_field=models.TextField(),
        db_persist=True,
    )

    objects = MLModelQuerySet.as_manager()

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        permissions = [("use_mlmodel", _("See and use a private model"))]
        constraints = [
            models.UniqueConstraint(fields=["publisher", "name"], name="one_model_per_publisher_and_name"),
            models.CheckConstraint(
                condition=Q(canary_percent__lte=100, shadow_percent__lte=100), name="shares_are_percentages"
            ),
        ]
        indexes = [
            models.Index(fields=["-subscriber_count", "-id"], name="model_by_popularity"),
            models.Index(fields=["name", "id"], name="model_by_name"),
            models.Index(fields=["publisher", "-id"], name="model_by_publisher"),
            models.Index(fields=["task"], name="model_by_task"),
            GinIndex(fields=["tags"], name="model_by_tag"),
            GinIndex(fields=["search_vector"], name="model_full_text"),
            GinIndex(OpClass("search_text", name="gin_trgm_ops"), name="model_trigrams"),
        ]

    def __str__(self) -> str:
        return self.display_name

    @property
    def ref(self) -> str:
        """`publisher/name`; join the publisher beforehand."""
        return f"{self.publisher.slug}/{self.name}"


class MLModelGroupObjectPermission(GroupObjectPermissionBase):
    """Which tenants' groups may use which private model: guardian's own table, with true foreign keys."""

    content_object = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="grants")

    class Meta(GroupObjectPermissionBase.Meta):
        verbose_name = _("grant")
        verbose_name_plural = _("grants")


class ModelVersionStatus(models.TextChoices):
    DRAFT = "DRAFT", _("Draft")
    VALIDATING = "VALIDATING", _("Validating")
    REJECTED = "REJECTED", _("Rejected")
    READY = "READY", _("Ready")
    LIVE = "LIVE", _("Live")
    RETIRED = "RETIRED", _("Retired")


class ArtifactFormat(models.TextChoices):
    ONNX = "onnx", "ONNX"
    # A zip of one .onnx file and its external data.
    ONNX_ARCHIVE = "onnx-archive", _("ONNX with external data")
    ENSEMBLE = "ensemble", _("Ensemble")


class ModelVersion(models.Model):
    """One artefact, fixed once it is checked: a trigger (migrations/versions.sql) refuses to change it from then on."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid7, editable=False)
    model = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="versions", verbose_name=_("model"))
    number = models.PositiveIntegerField(_("number"))
    status = models.CharField(
        _("status"), max_length=10, choices=ModelVersionStatus.choices, default=ModelVersionStatus.DRAFT
    )
    format = models.CharField(_("format"), max_length=16, choices=ArtifactFormat.choices, default=ArtifactFormat.ONNX)
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    size_bytes = models.BigIntegerField(_("size in bytes"))
    # Answers a request as often as it likes (Triton's decoupled transaction policy): what it generates can be streamed.
    decoupled = models.BooleanField(_("streams"), default=False, editable=False)
    # What was uploaded, when it is not what runs: the checks converted it.
    source_format = models.CharField(_("uploaded as"), max_length=16, blank=True, editable=False)
    source_sha256 = models.CharField(_("SHA-256 of the upload"), max_length=64, blank=True, editable=False)
    # How far the checks are, and what they found (publishing/versions.py).
    report = models.JSONField(_("report of the checks"), default=dict, blank=True, editable=False)
    release_notes = models.TextField(_("release notes"), blank=True, max_length=20_000)
    # How Triton runs it.
    instance_count = models.PositiveSmallIntegerField(_("instances"), default=1)
    max_batch_size = models.PositiveSmallIntegerField(_("largest batch"), default=0)
    response_cache = models.BooleanField(_("response cache"), default=False)
    # Subscribers are told so, with the date from which on it may be retired.
    deprecated_at = models.DateTimeField(_("deprecated"), null=True, blank=True, editable=False)
    sunset_at = models.DateTimeField(_("sunset"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    # When it first went live: from then on subscribers may name it, also after another has taken its place.
    released_at = models.DateTimeField(_("first released"), null=True, blank=True, editable=False)
    live_before = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version")
        verbose_name_plural = _("versions")
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="one_version_per_model_and_number"),
            models.UniqueConstraint(fields=["model"], condition=Q(status="LIVE"), name="one_live_version_per_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"

    @property
    def triton_name(self) -> str:
        return triton_name(self.model_id, self.number, self.instance_count, self.max_batch_size, self.response_cache)


def triton_name(
    model_id: UUID, number: int, instance_count: int = 1, max_batch_size: int = 0, response_cache: bool = False
) -> str:
    """A name of its own for each version and each way of running it, as in `<model id>-v3-i2-b8-c1`: loading one beside
    another is free of downtime, reloading one is not."""
    name = f"{model_id}-v{number}"
    if instance_count != 1:
        name += f"-i{instance_count}"
    if max_batch_size:
        name += f"-b{max_batch_size}"
    return f"{name}-c1" if response_cache else name


class ReleaseEventKind(models.TextChoices):
    # A release (with `percent`: of a canary) that waits until the version is loaded, and one that did not come to pass.
    REQUESTED = "REQUESTED", _("Requested")
    CALLED_OFF = "CALLED_OFF", _("Called off")
    RELEASED = "RELEASED", _("Released")
    PROMOTED = "PROMOTED", _("Promoted")
    ROLLED_BACK = "ROLLED_BACK", _("Rolled back")
    CANARY = "CANARY", _("Canary")
    SHADOW = "SHADOW", _("Shadow")
    DEPRECATED = "DEPRECATED", _("Deprecated")
    RETIRED = "RETIRED", _("Retired")
    TAKEN_DOWN = "TAKEN_DOWN", _("Taken down")
    RESTORED = "RESTORED", _("Restored")


# From then on, the event's version is the live one.
GONE_LIVE = (ReleaseEventKind.RELEASED, ReleaseEventKind.PROMOTED, ReleaseEventKind.ROLLED_BACK)


class ReleaseEvent(models.Model):
    """What became of a model's versions, and by whom. Append-only.

    The version that was live at a moment is that of the last RELEASED, PROMOTED or ROLLED_BACK before it. `percent` is
    the share that a canary or shadow has from then on, 0 when it ends; `version` is null for what befell the model.
    """

    id = models.BigAutoField(primary_key=True)
    model = models.ForeignKey(MLModel, on_delete=models.CASCADE, related_name="release_events")
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, null=True, related_name="release_events")
    kind = models.CharField(_("what"), max_length=12, choices=ReleaseEventKind.choices)
    percent = models.PositiveSmallIntegerField(_("percent"), null=True)
    reason = models.TextField(_("reason"), blank=True)
    # Who asked for it; nobody in particular for what the house did by itself.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    api_key = models.ForeignKey("tenants.ApiKey", on_delete=models.SET_NULL, null=True, related_name="+")
    at = models.DateTimeField(_("when"), default=timezone.now)

    objects = ReleaseEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("release event")
        verbose_name_plural = _("release events")
        indexes = [models.Index(fields=["model", "-at", "-id"], name="release_event_by_model")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.version}"


class Datatype(models.TextChoices):
    """As the Open Inference Protocol (v2) names them."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"


class Direction(models.TextChoices):
    INPUT = "INPUT", _("Input")
    OUTPUT = "OUTPUT", _("Output")


class TensorSpec(models.Model):
    """One input or output of a version. `shape` has -1 for a dynamic dimension; `example` is flat and row-major."""

    id = models.BigAutoField(primary_key=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="tensors")
    direction = models.CharField(max_length=6, choices=Direction.choices)
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=255)
    datatype = models.CharField(max_length=6, choices=Datatype.choices)
    shape = ArrayField(models.BigIntegerField())
    content_type = models.CharField(max_length=127, null=True, blank=True)  # noqa: DJ001  (null is "not said")
    labels = ArrayField(models.CharField(max_length=255), null=True, blank=True)
    example = models.JSONField(null=True, blank=True)
    example_shape = ArrayField(models.BigIntegerField(), null=True, blank=True)

    class Meta:
        verbose_name = _("tensor")
        verbose_name_plural = _("tensors")
        ordering = ["version_id", "direction", "position"]
        constraints = [
            models.UniqueConstraint(fields=["version", "direction", "name"], name="one_tensor_per_direction_and_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.datatype}{self.shape}"
