"""The steps that we provide do on Triton what Pillow and numpy do by hand, and no picture ends them."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inference import checking
from inference.ensembles import read_ensemble
from inference.tensors import Datatype, Signature, TensorSpec
from marketplace.catalog.models import Direction, ModelVersion, ModelVersionStatus
from marketplace.errors import InputRefused, ValidationProblem
from marketplace.objects import store
from marketplace.publishing import provided, steps
from tests import factories
from tests.inference import graphs, pictures
from tests.inference.conftest import Deploy
from tests.inference.ensembles import archive, step, words
from tests.inference.processes import processes_of
from tests.inference.test_backends import array, ask, strings, tensor

DIGITS = Path(__file__).parents[2] / "demo/catalogue/digits"
PICTURE = {
    "width": 6,
    "height": 4,
    "color": "RGB",
    "layout": "NCHW",
    "fit": "STRETCH",
    "scale": 1 / 255,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
GREY = {"color": "GRAYSCALE", "mean": (0.0,), "std": (1.0,)}

Step = Callable[[provided.Parameters], Awaitable[str]]


def signature(told: provided.Parameters) -> Signature:
    """The step's own tensors."""
    specs = (
        tuple(TensorSpec(name, Datatype(datatype), shape) for name, datatype, shape in tensors)
        for tensors in (told.inputs, told.outputs)
    )
    return Signature(*specs)


def alone(told: provided.Parameters) -> bytes:
    """An ensemble of that step and no other."""
    own = signature(told)
    maps = ({spec.name: spec.name for spec in specs} for specs in (own.inputs, own.outputs))
    described = step(told.BACKEND, told.BACKEND, own, *maps)
    described["files"] = {told.FILE: f"{told.BACKEND}/{told.FILE}"}
    return archive(own, described, files={f"{told.BACKEND}/{told.FILE}": told.write()})


@pytest.fixture
def deploy_step(deploy: Deploy) -> Step:
    return lambda told: deploy(alone(told), "ensemble")


def texts(answer: Any) -> list[list[str]]:
    """The elements of a BYTES tensor, row by row."""
    found, content = [], answer.content
    while content:
        size = int.from_bytes(content[:4], "little")
        found.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    return np.array(found).reshape(answer.shape).tolist()


class TestImage:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({}, id="channels first"),
            pytest.param({"layout": "NHWC", "color": "BGR", "width": 40, "height": 50}, id="blue first and enlarged"),
            pytest.param({"fit": "CROP", **GREY}, id="grey and cropped"),
            pytest.param({"fit": "PAD", "scale": 1.0, "std": (1.0, 1.0, 1.0)}, id="padded"),
        ],
    )
    async def test_pixels_are_those_of_pillow_and_numpy(
        self, triton: str, deploy_step: Step, change: dict[str, Any]
    ) -> None:
        told = PICTURE | change
        model = await deploy_step(provided.Image(**told))
        sent = [pictures.drawn(31, 17), pictures.drawn(9, 40)]

        answer = await ask(triton, model, strings("image", *map(pictures.encoded, sent)))

        assert array(answer["pixels"]).tobytes() == by_hand(sent, **told).tobytes()
        assert list(array(answer["pixels"]).shape) == [2, *provided.Image(**told).outputs[0][2][1:]]

    async def test_every_kind_of_picture_is_taken(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Image(**PICTURE))
        sent = [pictures.encoded(pictures.drawn(12, 12).convert(mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
        for mode in ("L", "RGB", "CMYK"):
            drawn = pictures.drawn(40, 30).convert(mode)
            sent += [pictures.encoded(drawn, "JPEG", progressive=progressive) for progressive in (False, True)]

        answer = await ask(triton, model, strings("image", *sent))

        assert array(answer["pixels"]).tobytes() == by_hand(list(map(pictures.decoded, sent)), **PICTURE).tobytes()

    async def test_a_picture_is_turned_as_the_camera_was_held(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Image(**PICTURE))
        upright, exif = pictures.drawn(20, 10), Image.Exif()
        exif[0x0112] = 6  # Orientation: turned to the right
        sent = pictures.encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)

        answer = await ask(triton, model, strings("image", sent))

        assert array(answer["pixels"]).tobytes() == by_hand([upright], **PICTURE).tobytes()

    async def test_no_picture_is_no_rows(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Image(**PICTURE))

        assert (await ask(triton, model, strings("image", shape=(0,))))["pixels"].shape == (0, 3, 4, 6)

    async def test_no_picture_harms_whoever_comes_next(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Image(**PICTURE))
        good = pictures.encoded(pictures.drawn(100, 100))
        hostile = {
            "more than 25000000 pixels": [pictures.bomb()],
            "25000000 pixels in all": [pictures.bomb(3000, 3000)] * 3,
            "too many": [good] * 257,
            "number 2 is cut off or damaged": [good, good[:-200]],
            "number 1 is cut off": [pictures.encoded(pictures.drawn(100, 100), "JPEG")[:2000]],
            "number 1 is not a PNG or JPEG": [b""],
            "is not a PNG or JPEG picture": [pictures.encoded(pictures.drawn(9, 9), "GIF")],
            "number 1 is not": [b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
            "animated": [pictures.animated()],
            "50 scans": [pictures.scanned_over_and_over()],
            "8 bits": [pictures.encoded(Image.new("I;16", (9, 9)))],
        }
        stubs = processes_of(f"{model}.image")

        for reason, contents in hostile.items():
            with pytest.raises(InputRefused, match=reason):
                await ask(triton, model, strings("image", *contents))

        assert processes_of(f"{model}.image") == stubs != []
        assert (await ask(triton, model, strings("image", good)))["pixels"].shape == (1, 3, 4, 6)


class TestLabels:
    SCORES = np.array([[1, 3, 2, 3], [-50, 0, 90, 1e4]], dtype=np.float32)

    async def test_probabilities_are_the_softmax_and_the_largest_have_their_labels(
        self, triton: str, deploy_step: Step
    ) -> None:
        model = await deploy_step(provided.Labels(softmax=True, labels=("Ä", "b", "c", "d"), top=3))

        answer = await ask(triton, model, tensor("scores", self.SCORES))

        expected = softmax(self.SCORES)
        assert array(answer["probabilities"]).tobytes() == expected.tobytes()
        assert texts(answer["labels"]) == [["b", "d", "c"], ["d", "Ä", "b"]]
        assert array(answer["label_probabilities"]).tobytes() == (
            np.array([expected[0, [1, 3, 2]], expected[1, [3, 0, 1]]]).tobytes()
        )

    async def test_without_softmax_scores_stay_as_they_are(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Labels(softmax=False, labels=("a", "b", "c", "d"), top=1))

        answer = await ask(triton, model, tensor("scores", self.SCORES))

        assert array(answer["probabilities"]).tobytes() == self.SCORES.tobytes()
        assert (texts(answer["labels"]), array(answer["label_probabilities"]).tolist()) == (
            [["b"], ["d"]],
            [[3], [1e4]],
        )

    async def test_without_labels_there_are_probabilities_of_any_number_of_classes(
        self, triton: str, deploy_step: Step
    ) -> None:
        model = await deploy_step(provided.Labels(softmax=True, labels=(), top=0))

        answer = await ask(triton, model, tensor("scores", self.SCORES[:, :3]))

        assert array(answer["probabilities"]).tobytes() == softmax(self.SCORES[:, :3]).tobytes()
        assert set(answer) == {"probabilities"}

    async def test_what_is_no_number_comes_last(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Labels(softmax=False, labels=("a", "b", "c"), top=3))

        answer = await ask(triton, model, tensor("scores", np.array([[np.nan, -np.inf, 5]], dtype=np.float32)))

        assert texts(answer["labels"]) == [["c", "b", "a"]]

    async def test_nothing_has_no_labels(self, triton: str, deploy_step: Step) -> None:
        model = await deploy_step(provided.Labels(softmax=True, labels=("a", "b"), top=1))

        answer = await ask(triton, model, tensor("scores", np.empty((0, 2), dtype=np.float32)))

        assert {name: each.shape for name, each in answer.items()} == {
            "probabilities": (0, 2),
            "labels": (0, 1),
            "label_probabilities": (0, 1),
        }


CLASSES = [f"digit {digit}" for digit in range(10)]


@pytest.fixture
def reader_of_digits(transactional_db: None, settings: Any, tmp_path: Path) -> ModelVersion:
    """openlab/digits with a picture before it, and labels behind: READY, for the checks have passed it."""
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"
    openlab = factories.tenant("openlab", is_publisher=True)
    sha256, size = store().put(DIGITS / "v1.onnx")
    version = factories.version(factories.model(openlab), sha256=sha256, size_bytes=size)
    version.tensors.all().delete()
    factories.tensor(version, Direction.INPUT, "image", shape=[-1, 1, 28, 28])
    factories.tensor(version, Direction.OUTPUT, "scores", shape=[-1, 10])
    principal = factories.principal(openlab)
    composed = steps.compose(
        principal,
        around=steps.network(principal, version_id=version.pk),
        before=provided.Image(**PICTURE | GREY | {"width": 28, "height": 28}),
        after=provided.Labels(softmax=False, labels=tuple(CLASSES), top=2),
    )
    checking.check_waiting()
    composed.refresh_from_db()
    assert composed.status == ModelVersionStatus.READY, composed.report
    return composed


def test_what_steps_take_and_give_is_described_by_itself(reader_of_digits: ModelVersion) -> None:
    told = {tensor.name: (tensor.content_type, tensor.labels) for tensor in reader_of_digits.tensors.all()}

    assert told == {
        "image": ("image/png", None),
        "probabilities": ("application/x-class-scores", CLASSES),
        "labels": ("text/plain", None),
        "label_probabilities": (None, None),
    }


async def test_a_picture_of_a_digit_is_read(triton: str, deploy: Deploy, reader_of_digits: ModelVersion) -> None:
    model = await deploy(store().get(reader_of_digits.sha256), "ensemble")
    samples = {
        digit: np.array(pixels, dtype=np.float32).reshape(28, 28)
        for digit, pixels in json.loads((DIGITS / "samples.json").read_text()).items()
    }

    answer = await ask(triton, model, strings("image", *map(pictures.digit, samples.values())))

    pixels = np.stack(list(samples.values()))[:, np.newaxis]
    (scores,) = graphs.run((DIGITS / "v1.onnx").read_bytes(), {"image": (pixels * 255).round() / np.float32(255)})
    assert [row[0] for row in texts(answer["labels"])] == CLASSES
    np.testing.assert_allclose(array(answer["probabilities"]), scores, atol=1e-5)
    assert set(answer) == {"probabilities", "labels", "label_probabilities"}


@pytest.fixture
def counter_of_words(transactional_db: None, settings: Any, tmp_path: Path) -> ModelVersion:
    """A network that sums token ids where the mask says so, behind a tokenizer."""
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"
    openlab = factories.tenant("openlab", is_publisher=True)
    sha256, size = store().put(graphs.masked_sum())
    version = factories.version(factories.model(openlab), sha256=sha256, size_bytes=size)
    version.tensors.all().delete()
    for position, name in enumerate(("input_ids", "attention_mask")):
        factories.tensor(version, Direction.INPUT, name, shape=[-1, -1], datatype="INT64", position=position)
    factories.tensor(version, Direction.OUTPUT, "sums", shape=[-1], datatype="INT64")
    principal = factories.principal(openlab)
    composed = steps.compose(
        principal,
        around=steps.network(principal, version_id=version.pk),
        before=provided.Tokenizer(words("the", "cat", "sat")),
    )
    checking.check_waiting()
    composed.refresh_from_db()
    assert composed.status == ModelVersionStatus.READY, composed.report
    return composed


async def test_a_text_becomes_tokens_that_are_counted(
    triton: str, deploy: Deploy, counter_of_words: ModelVersion
) -> None:
    model = await deploy(store().get(counter_of_words.sha256), "ensemble")

    answer = await ask(triton, model, strings("text", b"the cat sat", b"cat"))

    assert (array(answer["sums"]).tolist(), array(answer["token_count"]).tolist()) == ([2 + 3 + 4, 3], [3, 1])


WRONG = [
    ("width", 0),
    ("width", 5000),
    ("width", True),
    ("height", 4.5),
    ("color", "CMYK"),
    ("color", ["RGB"]),
    ("layout", "CHW"),
    ("fit", None),
    ("scale", 0),
    ("scale", 1e-60),
    ("scale", float("nan")),
    ("scale", 10**400),
    ("mean", [0.5]),
    ("mean", 0.5),
    ("mean", [0.5, 0.5, "0.5"]),
    ("std", [1, 1, 0]),
    ("width and height", 4096),
]


class TestReading:
    @pytest.mark.parametrize(("field", "value"), WRONG, ids=[f"{field} {value!r:.20}" for field, value in WRONG])
    def test_a_picture_step_is_told_what_it_can_do_and_nothing_else(self, field: str, value: Any) -> None:
        right = provided.Image(**PICTURE)
        told = json.loads(right.write()) | dict.fromkeys(field.split(" and "), value)

        with pytest.raises(provided.WrongParameter, match=field.split(maxsplit=1)[0]):
            provided.Image.read(json.dumps(told).encode())

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"labels": ["a", ""]}, id="an empty label"),
            pytest.param({"labels": ["a", "\0"]}, id="a NUL"),
            pytest.param({"labels": ["a"] * 65_537}, id="too many"),
            pytest.param({"labels": "ab"}, id="no list"),
            pytest.param({"labels": [], "top": 0, "softmax": False}, id="nothing to do"),
            pytest.param({"softmax": 1}, id="a number for truth"),
            pytest.param({"top": 0}, id="none of the labels"),
            pytest.param({"top": 3}, id="more than there are"),
            pytest.param({"more": 1}, id="something else"),
        ],
    )
    def test_so_is_one_of_labels(self, change: dict[str, Any]) -> None:
        told = {"softmax": True, "labels": ["a", "b"], "top": 1} | change

        with pytest.raises(provided.WrongParameter):
            provided.Labels.read(json.dumps(told).encode())

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff"], ids=range(5))
    def test_what_is_no_such_file_is_refused(self, content: bytes) -> None:
        with pytest.raises(provided.WrongParameter, match=r"image\.json"):
            provided.Image.read(content)

    def test_an_ensembles_step_has_the_tensors_of_what_it_is_told(self) -> None:
        small, large = provided.Image(**PICTURE), provided.Image(**PICTURE | {"width": 7})
        own = signature(small)
        lies = step("image", "image", own, {"image": "image"}, {"pixels": "pixels"})
        lies["files"] = {"image.json": "image/image.json"}

        with pytest.raises(ValidationProblem, match=r"step image has the inputs .* and the outputs"):
            read_ensemble(archive(own, lies, files={"image/image.json": large.write()}))

    def test_and_is_told_nothing_wrong(self) -> None:
        right = provided.Image(**PICTURE)
        wrong = step("image", "image", signature(right), {"image": "image"}, {"pixels": "pixels"})
        wrong["files"] = {"image.json": "image/image.json"}

        with pytest.raises(ValidationProblem, match="what step image is told is wrong: fit"):
            files = {"image/image.json": right.write().replace(b"STRETCH", b"SHRINK")}
            read_ensemble(archive(signature(right), wrong, files=files))


def by_hand(
    images: list[Image.Image],
    *,
    width: int,
    height: int,
    color: str,
    layout: str,
    fit: str,
    scale: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> NDArray[np.float32]:
    rows = []
    for image in images:
        converted = image.convert("L" if color == "GRAYSCALE" else "RGB")
        fits = {"STRETCH": Image.Image.resize, "CROP": ImageOps.fit, "PAD": ImageOps.pad}
        fitted = np.asarray(fits[fit](converted, (width, height), Image.Resampling.BILINEAR))
        row = np.atleast_3d(fitted).astype(np.float32)
        row = (row[:, :, ::-1] if color == "BGR" else row) * np.float32(scale)
        row = (row - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
        rows.append(row.transpose(2, 0, 1) if layout == "NCHW" else row)
    return np.stack(rows)


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    answer: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return answer
