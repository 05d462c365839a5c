"""Forms that ask what an action needs to know. What the action refuses is shown at the field that it names."""

import json
from datetime import UTC, datetime, time
from typing import Any, ClassVar, cast

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from marketplace.catalog.models import MLModel, ModelVersion, TensorSpec
from marketplace.errors import MarketplaceError
from marketplace.publishing.configuration import LARGEST_BATCH, MOST_INSTANCES

from .forms import field_at


class Question(forms.Form):
    """Asked about `row`. `at` names the field of a path that has another name here."""

    at: ClassVar[dict[str, str]] = {}

    def __init__(self, row: Any, data: Any = None, files: Any = None) -> None:
        super().__init__(data, files)
        self.row = row

    def blame(self, problem: MarketplaceError) -> None:
        path = problem.path or ""
        name = self.at.get(path) or field_at(path)
        self.add_error(name if name in self.fields else None, problem.message)


class UploadQuestion(Question):
    """Either `upload`, the id of one that has all its bytes (static/publish/upload.js), or a small `file` itself."""

    at: ClassVar[dict[str, str]] = {"input.upload": "file", "input.artifact": "file"}

    file = forms.FileField(
        label=gettext_lazy("Artefact"),
        required=False,
        widget=forms.FileInput(attrs={"class": "publish-file", "required": True}),
        help_text=gettext_lazy(
            "An ONNX file; or a zip of an ONNX file with its external data, of an ensemble, or of a TensorFlow "
            "SavedModel; or a TFLite file. It is checked before anybody can call it."
        ),
    )
    upload = forms.UUIDField(required=False, widget=forms.HiddenInput)
    release_notes = forms.CharField(
        label=gettext_lazy("Release notes"),
        required=False,
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text=gettext_lazy("What is new, for those who call it."),
    )

    def __init__(self, row: MLModel, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        self.model_ref = row.ref
        if data and data.get("upload"):
            # Its bytes are here already: what is left to mend is something else.
            self.fields["file"].widget.attrs.pop("required")

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if not self.errors and not given.get("upload") and not given.get("file"):
            self.add_error("file", _("Choose the file to upload."))
        return given


class ShareQuestion(Question):
    percent = forms.IntegerField(
        label=gettext_lazy("Share in percent"),
        min_value=0,
        max_value=100,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"min": 0, "max": 100}),
    )
    kind: ClassVar[str]

    def __init__(self, row: ModelVersion, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        now = getattr(row.model, f"{self.kind}_percent")
        is_it = getattr(row.model, f"{self.kind}_version_id") == row.pk
        percent = cast(forms.IntegerField, self.fields["percent"])
        percent.initial = now if is_it else 10
        if not is_it:
            # 0 would end another version's share.
            percent.min_value = 1
            percent.validators.append(MinValueValidator(1))
            percent.widget.attrs["min"] = 1


class CanaryQuestion(ShareQuestion):
    kind = "canary"


class ShadowQuestion(ShareQuestion):
    kind = "shadow"


class SunsetQuestion(Question):
    at: ClassVar[dict[str, str]] = {"input.sunsetAt": "sunset"}

    sunset = forms.DateField(
        label=gettext_lazy("Sunset"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date", "class": " ".join(INPUT_CLASSES)}),
        help_text=gettext_lazy(
            "From this day on (UTC) it may be retired. It can be put off later, but not brought forward. Empty: "
            "no date yet."
        ),
    )

    def __init__(self, row: ModelVersion, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        self.fields["sunset"].initial = row.sunset_at and row.sunset_at.astimezone(UTC).date()
        self.fields["sunset"].widget.attrs["min"] = timezone.now().date().isoformat()

    def clean_sunset(self) -> datetime | None:
        day = self.cleaned_data["sunset"]
        return None if day is None else datetime.combine(day, time(), UTC)


class SettingsQuestion(Question):
    """How Triton runs it."""

    instance_count = forms.IntegerField(
        label=gettext_lazy("Instances"),
        min_value=1,
        max_value=MOST_INSTANCES,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"min": 1, "max": MOST_INSTANCES}),
        help_text=gettext_lazy("Copies on each server: as many calls run at a time. Each takes the model's memory."),
    )
    max_batch_size = forms.IntegerField(
        label=gettext_lazy("Largest batch"),
        min_value=0,
        max_value=LARGEST_BATCH,
        widget=UnfoldAdminIntegerFieldWidget(attrs={"min": 0, "max": LARGEST_BATCH}),
        help_text=gettext_lazy(
            "How many rows the requests may have that are answered together; a request of more is refused. 0: one "
            "request at a time. It is tried out on a server first, which may take a while."
        ),
    )
    response_cache = forms.BooleanField(
        label=gettext_lazy("Response cache"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy("The same input gets the answer that it got before, without running the model."),
    )

    def __init__(self, row: ModelVersion, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        for name, field in self.fields.items():
            field.initial = getattr(row, name)


class TensorsQuestion(Question):
    """Content type, labels and example of each tensor; fields are named `content_type_0`, in the tensors' order."""

    release_notes = forms.CharField(
        label=gettext_lazy("Release notes"),
        required=False,
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text=gettext_lazy("What is new, for those who call it."),
    )

    def __init__(self, row: ModelVersion, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        self.fields["release_notes"].initial = row.release_notes
        self.tensors: list[TensorSpec] = list(row.tensors.all())
        for number, tensor in enumerate(self.tensors):
            self.fields |= self._fields_of(number, tensor)

    def _fields_of(self, number: int, tensor: TensorSpec) -> dict[str, forms.Field]:
        return {
            f"content_type_{number}": forms.CharField(
                label=_("Content type"),
                required=False,
                max_length=127,
                initial=tensor.content_type,
                widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "image/png"}),
                help_text=_("What its values are to people: text/plain, image/png. Empty: just numbers."),
            ),
            f"labels_{number}": forms.CharField(
                label=_("Labels"),
                required=False,
                initial="\n".join(tensor.labels or ()),
                widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
                help_text=_("One a line, in the order of the last dimension: what each score is of."),
            ),
            f"example_{number}": forms.CharField(
                label=_("Example"),
                required=False,
                initial="" if tensor.example is None else json.dumps(tensor.example, ensure_ascii=False),
                widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
                help_text=_(
                    "A flat JSON list of values, as in [0.5, 1.5]: the page and the code samples begin with it."
                ),
            ),
            f"example_shape_{number}": forms.CharField(
                label=_("Shape of the example"),
                required=False,
                initial=", ".join(map(str, tensor.example_shape or ())),
                widget=UnfoldAdminTextInputWidget,
                help_text=_("As in 1, 3, 224, 224. It may be left out where only one fits."),
            ),
        }

    def groups(self) -> list[tuple[TensorSpec, list[forms.BoundField]]]:
        names = ("content_type", "labels", "example", "example_shape")
        return [(tensor, [self[f"{name}_{number}"] for name in names]) for number, tensor in enumerate(self.tensors)]

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        for number in range(len(self.tensors)):
            for name, read in (("labels", _lines), ("example", _values), ("example_shape", _sizes)):
                field = f"{name}_{number}"
                try:
                    given[field] = read(given[field]) if given.get(field) else None
                except ValidationError as error:
                    self.add_error(field, error)
            given[f"content_type_{number}"] = given.get(f"content_type_{number}") or None
        return given

    def blame(self, problem: MarketplaceError) -> None:
        """`input.tensors.0.contentType` is `content_type_0`."""
        name = field_at(problem.path or "")
        number, dot, _rest = (problem.path or "").removeprefix("input.tensors.").partition(".")
        name = f"{name}_{number}" if dot and number.isdigit() else name
        self.add_error(name if name in self.fields else None, problem.message)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _values(text: str) -> list[Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise ValidationError(_("This is no JSON list, as in [0.5, 1.5]."))
    return values


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise ValidationError(_("Sizes are whole numbers with commas between them, as in 1, 3, 224, 224.")) from None
