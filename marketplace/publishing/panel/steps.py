"""The form that puts provided steps around a version's network."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from marketplace.access import Principal
from marketplace.catalog.models import Direction, ModelVersion, TensorSpec
from marketplace.publishing import provided, steps

from .questions import Question

NOTHING, IMAGE, TOKENIZER = "", provided.Image.BACKEND, provided.Tokenizer.BACKEND
BEFORE = (
    (NOTHING, gettext_lazy("Nothing")),
    (IMAGE, gettext_lazy("A picture becomes numbers")),
    (TOKENIZER, gettext_lazy("A text becomes tokens")),
)
FITS = (
    (provided.Fit.STRETCH, gettext_lazy("Ignore its proportions")),
    (provided.Fit.CROP, gettext_lazy("Take its middle")),
    (provided.Fit.PAD, gettext_lazy("Add black")),
)
MAX_NUMBERS_CHARACTERS = 200


def _choice(label: Any, choices: Any, **options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label, choices=choices, required=False, widget=UnfoldAdminSelectWidget(choices=choices), **options
    )


def _whole(label: Any, **options: Any) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, widget=UnfoldAdminIntegerFieldWidget(), **options)


class StepsQuestion(Question):
    """Fields begin with what the network's own tensors suggest."""

    at: ClassVar[dict[str, str]] = {
        "input.preprocessing": "before",
        "input.preprocessing.image": "before",
        "input.preprocessing.image.tensor": "into",
        "input.preprocessing.tokenizer": "before",
        "input.preprocessing.tokenizer.upload": "tokenizer",
        "input.postprocessing": "after",
        "input.postprocessing.classification": "after",
        "input.postprocessing.classification.tensor": "out_of",
    }

    before = _choice(gettext_lazy("Before the network"), BEFORE)
    into = _choice(gettext_lazy("The picture's numbers go into"), ())
    width = _whole(gettext_lazy("Width"), help_text=gettext_lazy("Of the picture as the network takes it, in pixels."))
    height = _whole(gettext_lazy("Height"))
    color = _choice(gettext_lazy("Colours"), [(color, color.value) for color in provided.Color])
    layout = _choice(
        gettext_lazy("Layout"),
        [(layout, layout.value) for layout in provided.Layout],
        help_text=gettext_lazy("NCHW: a plane for each colour. NHWC: the colours of each pixel together."),
    )
    fit = _choice(gettext_lazy("A picture of other proportions"), FITS)
    scale = forms.FloatField(
        label=gettext_lazy("Scale"),
        required=False,
        initial=1 / 255,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Pixels have values from 0 to 255, and are multiplied by this first."),
    )
    mean = forms.CharField(
        label=gettext_lazy("Mean"),
        required=False,
        max_length=MAX_NUMBERS_CHARACTERS,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "0.485, 0.456, 0.406"}),
        help_text=gettext_lazy("One for each colour, subtracted then. Empty: 0."),
    )
    std = forms.CharField(
        label=gettext_lazy("Standard deviation"),
        required=False,
        max_length=MAX_NUMBERS_CHARACTERS,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "0.229, 0.224, 0.225"}),
        help_text=gettext_lazy("One for each colour, divided by at last. Empty: 1."),
    )
    tokenizer = forms.FileField(
        label=gettext_lazy("tokenizer.json"),
        required=False,
        widget=forms.FileInput(attrs={"class": "publish-file"}),
        help_text=gettext_lazy("Of a Hugging Face model. Its tokens go into input_ids and attention_mask."),
    )
    after = forms.BooleanField(
        label=gettext_lazy("After the network: probabilities and labels"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )
    out_of = _choice(gettext_lazy("They are made of"), ())
    softmax = forms.BooleanField(
        label=gettext_lazy("Softmax"),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy("Not for scores that are probabilities already."),
    )
    labels = forms.CharField(
        label=gettext_lazy("Labels"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text=gettext_lazy("One a line, for each class. Empty: probabilities alone."),
    )
    top = _whole(gettext_lazy("How many labels"), initial=5)
    release_notes = forms.CharField(
        label=gettext_lazy("Release notes"),
        required=False,
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
    )

    def __init__(self, row: ModelVersion, data: Any = None, files: Any = None) -> None:
        super().__init__(row, data, files)
        tensors = list(row.tensors.all())
        for name, direction in (("into", Direction.INPUT), ("out_of", Direction.OUTPUT)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [(tensor.name, tensor.name) for tensor in tensors if tensor.direction == direction]
        self.initial = _suggested(tensors)

    def clean_mean(self) -> tuple[float, ...] | None:
        return _numbers(self.cleaned_data["mean"])

    def clean_std(self) -> tuple[float, ...] | None:
        return _numbers(self.cleaned_data["std"])

    def clean_labels(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["labels"].splitlines() if line.strip()]

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        if given.get("before") == TOKENIZER and not given.get("tokenizer") and "tokenizer" not in self.errors:
            self.add_error("tokenizer", _("Choose the tokenizer.json."))
        elif given.get("tokenizer") and given["tokenizer"].size > steps.MAX_TOKENIZER_BYTES:
            self.add_error(
                "tokenizer", _("A tokenizer.json has at most %(most)d bytes.") % {"most": steps.MAX_TOKENIZER_BYTES}
            )
        return given


def compose(principal: Principal, version: ModelVersion, given: dict[str, Any]) -> ModelVersion:
    """What the form was filled in with, done. Raises what the action raises."""
    around = steps.network(principal, version_id=version.pk)
    after = None
    if given["after"]:
        with steps.told("input.postprocessing.classification"):
            labels = tuple(given["labels"])
            top = min(given["top"] or 0, len(labels)) if labels else 0
            after = provided.Labels(softmax=given["softmax"], labels=labels, top=top)
    return steps.compose(
        principal,
        around=around,
        before=_before(given),
        into=given["into"] or None,
        after=after,
        out_of=given["out_of"] or None,
        release_notes=given["release_notes"],
    )


def _before(given: dict[str, Any]) -> steps.Before | None:
    if given["before"] == TOKENIZER:
        with steps.told("input.preprocessing.tokenizer"):
            return provided.Tokenizer(given["tokenizer"].read())
    if given["before"] != IMAGE:
        return None
    channels = 1 if given["color"] == provided.Color.GRAYSCALE else 3
    with steps.told("input.preprocessing.image"):
        return provided.Image(
            width=given["width"],
            height=given["height"],
            color=given["color"],
            layout=given["layout"],
            fit=given["fit"],
            scale=given["scale"],
            mean=given["mean"] or (0.0,) * channels,
            std=given["std"] or (1.0,) * channels,
        )


def _suggested(tensors: list[TensorSpec]) -> dict[str, Any]:
    """What the tensors look like: a picture of so many pixels, tokens, scores with labels."""
    told: dict[str, Any] = {"softmax": True}
    for tensor in tensors:
        if tensor.direction == Direction.OUTPUT:
            if tensor.labels and "labels" not in told:
                told |= {"after": True, "out_of": tensor.name, "labels": "\n".join(tensor.labels)}
            continue
        if tensor.name in ("input_ids", "attention_mask"):
            told["before"] = TOKENIZER
        elif len(tensor.shape) == 4 and "width" not in told:
            _rows, *sizes = tensor.shape
            channels_last = sizes[2] in (1, 3) and sizes[0] not in (1, 3)
            channels, height, width = (sizes[2], sizes[0], sizes[1]) if channels_last else sizes
            told |= {"before": IMAGE, "into": tensor.name}
            told |= {name: size for name, size in (("width", width), ("height", height)) if size > 0}
            told["layout"] = provided.Layout.NHWC if channels_last else provided.Layout.NCHW
            told["color"] = provided.Color.GRAYSCALE if channels == 1 else provided.Color.RGB
    return told


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        return tuple(float(number) for number in text.split(",")) if text else None
    except ValueError:
        raise ValidationError(_("Numbers with commas between them, as in 0.5, 0.5, 0.5.")) from None
