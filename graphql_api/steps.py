"""Steps that the marketplace provides, put around a publisher's own network: a new version of its model."""

import strawberry

from marketplace.access import Principal
from marketplace.catalog import models as catalog
from marketplace.publishing import provided, steps

from .context import Info
from .mutation import expected_failures
from .nodes import primary_key
from .payloads import ModelVersionPayload

strawberry.enum(provided.Layout, name="ImageLayout")
strawberry.enum(provided.Color, name="ImageColor")
strawberry.enum(provided.Fit, name="ImageFit", description="Ignore the proportions, take the middle, or add black.")

USUAL_TOP = 5


@strawberry.input(description="A PNG or JPEG, at the size given: (value * scale - mean) / std for values of 0 to 255.")
class ImageStepInput:
    width: int
    height: int
    color: provided.Color = provided.Color.RGB
    layout: provided.Layout = provided.Layout.NCHW
    fit: provided.Fit = provided.Fit.STRETCH
    scale: float = strawberry.field(default=1 / 255, description="1/255 makes numbers from 0 to 1 of the values.")
    mean: list[float] | None = strawberry.field(default=None, description="One for each channel; null: 0.")
    std: list[float] | None = strawberry.field(default=None, description="One for each channel; null: 1.")
    tensor: str | None = strawberry.field(
        default=None, description="The input of the network that takes the pixels; null: the only one."
    )

    def told(self) -> provided.Image:
        channels = 1 if self.color == provided.Color.GRAYSCALE else 3
        with steps.told("input.preprocessing.image"):
            return provided.Image(
                width=self.width,
                height=self.height,
                color=self.color.value,
                layout=self.layout.value,
                fit=self.fit.value,
                scale=self.scale,
                mean=(0.0,) * channels if self.mean is None else tuple(self.mean),
                std=(1.0,) * channels if self.std is None else tuple(self.std),
            )


@strawberry.input(description="Texts become the input_ids and attention_mask of the network.")
class TokenizerStepInput:
    upload: strawberry.ID = strawberry.field(description="Complete: a Hugging Face tokenizer.json.")


@strawberry.input(one_of=True)
class PreprocessingInput:
    image: strawberry.Maybe[ImageStepInput]
    tokenizer: strawberry.Maybe[TokenizerStepInput]


@strawberry.input(description="Class scores become probabilities, and the labels of the most probable classes.")
class ClassificationStepInput:
    softmax: bool = strawberry.field(default=True, description="False for scores that are probabilities already.")
    labels: list[str] | None = strawberry.field(
        default=None, description="One for each class; null: those of the tensor. Without any there are none."
    )
    top: int | None = strawberry.field(default=None, description=f"How many labels, at most 100; null: {USUAL_TOP}.")
    tensor: str | None = strawberry.field(
        default=None, description="The output of the network that has the scores; null: the only one."
    )

    def told(self, around: steps.Network) -> provided.Labels:
        labels = around.labels_of(self.tensor) if self.labels is None else self.labels
        with steps.told("input.postprocessing.classification"):
            return provided.Labels(
                softmax=self.softmax,
                labels=tuple(labels),
                top=min(USUAL_TOP, len(labels)) if self.top is None else self.top,
            )


@strawberry.input
class PostprocessingInput:
    classification: ClassificationStepInput


@strawberry.input
class ComposeModelVersionInput:
    model_version: strawberry.ID = strawberry.field(description="A READY or LIVE one, of a single ONNX network.")
    preprocessing: PreprocessingInput | None = None
    postprocessing: PostprocessingInput | None = None
    release_notes: str = ""


@strawberry.type
class ComposeModelVersionPayload(ModelVersionPayload):
    pass


@strawberry.type
class StepsMutation:
    @strawberry.mutation(
        description="The model's next version: provided steps before and after the network of another one. It is "
        "VALIDATING, as if it had been uploaded."
    )
    @expected_failures(ComposeModelVersionPayload)
    def compose_model_version(self, info: Info, input: ComposeModelVersionInput) -> ComposeModelVersionPayload:
        principal = info.context.principal
        version_id = primary_key(input.model_version, "ModelVersion", path="input.modelVersion")
        around = steps.network(principal, version_id=version_id)
        before, into = _before(principal, input.preprocessing)
        after = input.postprocessing and input.postprocessing.classification
        version = steps.compose(
            principal,
            around=around,
            before=before,
            into=into,
            after=after.told(around) if after else None,
            out_of=after.tensor if after else None,
            release_notes=input.release_notes,
        )
        return ComposeModelVersionPayload(row=catalog.ModelVersion.objects.filter(pk=version.pk))


def _before(principal: Principal, given: PreprocessingInput | None) -> tuple[steps.Before | None, str | None]:
    """The step, and the tensor that it is said to go into."""
    if given is not None and given.image is not None:
        return given.image.value.told(), given.image.value.tensor
    if given is not None and given.tokenizer is not None:
        upload_id = primary_key(
            given.tokenizer.value.upload, "ArtifactUpload", path="input.preprocessing.tokenizer.upload"
        )
        return steps.tokenizer(principal, upload_id=upload_id), None
    return None, None
