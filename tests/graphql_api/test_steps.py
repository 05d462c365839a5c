"""composeModelVersion."""

from pathlib import Path
from typing import Any

import pytest

from graphql_api.nodes import global_id
from inference.ensembles import Ensemble, read_ensemble
from marketplace.access import TenantRole
from marketplace.catalog.models import Direction, ModelVersion, ModelVersionStatus
from marketplace.objects import store
from marketplace.publishing import provided
from tests import factories
from tests.graphql_api.caller import Caller
from tests.graphql_api.conftest import Marketplace
from tests.inference.ensembles import words

COMPOSE = """
mutation ($input: ComposeModelVersionInput!) {
  composeModelVersion(input: $input) {
    modelVersion { id number status releaseNotes }
    errors { __typename code message path }
  }
}"""
IMAGE = {"width": 28, "height": 28, "color": "GRAYSCALE"}
CLASSES = [str(digit) for digit in range(10)]
NETWORK = b"what the network is does not matter here"


@pytest.fixture(autouse=True)
def _objects(settings: Any, tmp_path: Path) -> None:
    settings.OBJECTS_DIR, settings.INCOMING_DIR = tmp_path / "objects", tmp_path / "incoming"


@pytest.fixture
def digits(marketplace: Marketplace) -> ModelVersion:
    """READY, with the tensors of openlab/digits and one more of each."""
    sha256, size = store().put(NETWORK)
    version = factories.version(
        marketplace.model, status=ModelVersionStatus.READY, released_at=None, sha256=sha256, size_bytes=size
    )
    version.tensors.all().delete()
    factories.tensor(version, Direction.INPUT, "image", shape=[-1, 1, 28, 28])
    factories.tensor(version, Direction.OUTPUT, "scores", shape=[-1, 10], labels=CLASSES)
    return version


@pytest.fixture
def texts(marketplace: Marketplace) -> ModelVersion:
    """READY, and takes token ids."""
    sha256, size = store().put(NETWORK)
    version = factories.version(
        marketplace.model, status=ModelVersionStatus.READY, released_at=None, sha256=sha256, size_bytes=size
    )
    version.tensors.all().delete()
    factories.tensor(version, Direction.INPUT, "attention_mask", shape=[-1, -1], datatype="INT64")
    factories.tensor(version, Direction.INPUT, "input_ids", shape=[-1, 128], datatype="INT64", position=1)
    factories.tensor(version, Direction.INPUT, "temperature", shape=[1], position=2)
    factories.tensor(version, Direction.OUTPUT, "vectors", shape=[-1, 384])
    return version


def composed(caller: Caller, version: ModelVersion, **said: Any) -> dict[str, Any]:
    given = {"modelVersion": global_id("ModelVersion", version.pk)}
    answer: dict[str, Any] = caller.data(COMPOSE, input=given | said)["composeModelVersion"]
    return answer


def ensemble(version: ModelVersion) -> Ensemble:
    """What the model's newest version is made of."""
    newest = version.model.versions.order_by("-number")[0]
    return read_ensemble(store().get(newest.sha256))


def signature(found: Ensemble) -> dict[str, tuple[str, tuple[int, ...]]]:
    specs = (*found.signature.inputs, *found.signature.outputs)
    return {spec.name: (spec.datatype.value, spec.shape) for spec in specs}


def uploaded(marketplace: Marketplace, content: bytes, **fields: Any) -> str:
    sha256, size = store().put(content)
    row = factories.upload(
        marketplace.openlab, **{"sha256": sha256, "size_bytes": size, "received_bytes": size} | fields
    )
    return global_id("ArtifactUpload", row.pk)


class TestComposing:
    def test_it_becomes_the_next_version_and_is_checked_as_an_upload_is(
        self, marketplace: Marketplace, digits: ModelVersion
    ) -> None:
        answer = composed(
            marketplace.publisher, digits, preprocessing={"image": IMAGE}, releaseNotes="It takes pictures."
        )

        version = answer["modelVersion"]
        assert answer["errors"] == []
        assert (version["number"], version["status"]) == (digits.number + 1, "VALIDATING")
        assert version["releaseNotes"] == "It takes pictures."

    def test_a_picture_goes_in_and_labels_come_out(self, marketplace: Marketplace, digits: ModelVersion) -> None:
        composed(
            marketplace.publisher,
            digits,
            preprocessing={"image": IMAGE | {"mean": [0.5], "std": [0.25], "layout": "NCHW", "fit": "PAD", "scale": 1}},
            postprocessing={"classification": {"softmax": False, "top": 3}},
        )

        found = ensemble(digits)
        assert signature(found) == {
            "image": ("BYTES", (-1,)),
            "probabilities": ("FP32", (-1, 10)),
            "labels": ("BYTES", (-1, 3)),
            "label_probabilities": ("FP32", (-1, 3)),
        }
        before, network, after = found.steps
        assert provided.Image.read(before.files["image.json"]) == provided.Image(
            width=28, height=28, color="GRAYSCALE", layout="NCHW", fit="PAD", scale=1, mean=(0.5,), std=(0.25,)
        )
        assert network.files["model.onnx"] == NETWORK
        assert provided.Labels.read(after.files["labels.json"]) == provided.Labels(
            softmax=False, labels=tuple(CLASSES), top=3
        )

    def test_texts_become_the_tokens_that_the_network_takes_and_are_counted(
        self, marketplace: Marketplace, texts: ModelVersion
    ) -> None:
        tokenizer = words("the", "cat")

        answer = composed(
            marketplace.publisher, texts, preprocessing={"tokenizer": {"upload": uploaded(marketplace, tokenizer)}}
        )

        assert answer["errors"] == []
        found = ensemble(texts)
        assert signature(found) == {
            "text": ("BYTES", (-1,)),
            "temperature": ("FP32", (1,)),
            "vectors": ("FP32", (-1, 384)),
            "token_count": ("INT64", (-1,)),
        }
        assert found.steps[0].files["tokenizer.json"] == tokenizer

    def test_labels_said_take_the_place_of_the_tensors_and_softmax_alone_needs_none(
        self, marketplace: Marketplace, digits: ModelVersion
    ) -> None:
        for labels in ([*"abcdefghij"], []):
            composed(marketplace.publisher, digits, postprocessing={"classification": {"labels": labels}})

            told = provided.Labels.read(ensemble(digits).steps[-1].files["labels.json"])
            assert (told.labels, told.top) == (tuple(labels), min(5, len(labels)))

    def test_the_same_steps_around_the_same_network_are_the_same_artefact(
        self, marketplace: Marketplace, digits: ModelVersion
    ) -> None:
        for _ in range(2):
            composed(marketplace.publisher, digits, preprocessing={"image": IMAGE})

        first, second = digits.model.versions.order_by("-number")[:2]
        assert first.sha256 == second.sha256


def test_what_is_composed_counts_as_what_is_uploaded(
    marketplace: Marketplace, digits: ModelVersion, settings: Any
) -> None:
    settings.MAX_ARTIFACT_BYTES = 100

    answer = composed(marketplace.publisher, digits, preprocessing={"image": IMAGE})

    assert [(error["code"], error["path"]) for error in answer["errors"]] == [("VALIDATION", "input")]


@pytest.mark.parametrize(
    ("said", "path"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"preprocessing": {"image": IMAGE | {"width": 29}}}, ".preprocessing.image", id="another size"),
        pytest.param({"preprocessing": {"image": IMAGE | {"width": 0}}}, ".preprocessing.image.width", id="no size"),
        pytest.param({"preprocessing": {"image": IMAGE | {"std": [0]}}}, ".preprocessing.image.std", id="no deviation"),
        pytest.param(
            {"preprocessing": {"image": IMAGE | {"color": "RGB"}}}, ".preprocessing.image", id="more channels"
        ),
        pytest.param(
            {"preprocessing": {"image": IMAGE | {"layout": "NHWC"}}}, ".preprocessing.image", id="channels last"
        ),
        pytest.param(
            {"preprocessing": {"image": IMAGE | {"tensor": "picture"}}},
            ".preprocessing.image.tensor",
            id="no such one",
        ),
        pytest.param(
            {"postprocessing": {"classification": {"labels": ["a"]}}}, ".postprocessing.classification", id="too few"
        ),
        pytest.param(
            {"postprocessing": {"classification": {"top": 11}}}, ".postprocessing.classification.top", id="too many"
        ),
        pytest.param(
            {"postprocessing": {"classification": {"tensor": "image"}}},
            ".postprocessing.classification.tensor",
            id="an input's scores",
        ),
        pytest.param({"preprocessing": {"image": IMAGE}, "releaseNotes": "\0"}, ".releaseNotes", id="a NUL"),
    ],
)
def test_what_does_not_fit_is_named_and_makes_no_version(
    marketplace: Marketplace, digits: ModelVersion, said: dict[str, Any], path: str
) -> None:
    answer = composed(marketplace.publisher, digits, **said)

    assert [(error["code"], error["path"]) for error in answer["errors"]] == [("VALIDATION", f"input{path}")]
    assert digits.model.versions.order_by("-number")[0] == digits


class TestTokenizers:
    @pytest.mark.parametrize("content", [b"{}", b"[]", b"\xff", b"[" * 100_000], ids=range(4))
    def test_what_is_none_is_refused(self, marketplace: Marketplace, texts: ModelVersion, content: bytes) -> None:
        upload = uploaded(marketplace, content)

        answer = composed(marketplace.publisher, texts, preprocessing={"tokenizer": {"upload": upload}})

        assert [error["path"] for error in answer["errors"]] == ["input.preprocessing.tokenizer.upload"]

    def test_nor_is_one_read_that_is_too_large(self, marketplace: Marketplace, texts: ModelVersion) -> None:
        most = 32 * 1024**2
        upload = uploaded(marketplace, b"{}", size_bytes=most + 1, received_bytes=most + 1)

        answer = composed(marketplace.publisher, texts, preprocessing={"tokenizer": {"upload": upload}})

        assert [error["code"] for error in answer["errors"]] == ["VALIDATION"]

    def test_nor_one_that_is_still_on_its_way(self, marketplace: Marketplace, texts: ModelVersion) -> None:
        upload = global_id("ArtifactUpload", factories.upload(marketplace.openlab, status="PENDING").pk)

        answer = composed(marketplace.publisher, texts, preprocessing={"tokenizer": {"upload": upload}})

        assert [error["code"] for error in answer["errors"]] == ["VALIDATION"]

    def test_another_publishers_answers_as_a_missing_one(self, marketplace: Marketplace, texts: ModelVersion) -> None:
        otherlab = factories.tenant("otherlab", is_publisher=True)
        foreign = global_id("ArtifactUpload", factories.upload(otherlab).pk)

        answer = composed(marketplace.publisher, texts, preprocessing={"tokenizer": {"upload": foreign}})

        assert [(error["code"], error["path"]) for error in answer["errors"]] == [
            ("NOT_FOUND", "input.preprocessing.tokenizer.upload")
        ]

    def test_a_network_without_token_ids_takes_none(self, marketplace: Marketplace, digits: ModelVersion) -> None:
        upload = uploaded(marketplace, words("the"))

        answer = composed(marketplace.publisher, digits, preprocessing={"tokenizer": {"upload": upload}})

        assert [error["path"] for error in answer["errors"]] == ["input.preprocessing.tokenizer"]


class TestNetworks:
    @pytest.mark.parametrize("status", ["DRAFT", "VALIDATING", "REJECTED", "RETIRED"])
    def test_steps_go_around_what_could_run(
        self, marketplace: Marketplace, digits: ModelVersion, status: ModelVersionStatus
    ) -> None:
        ModelVersion.objects.filter(pk=digits.pk).update(status=status)

        answer = composed(marketplace.publisher, digits, preprocessing={"image": IMAGE})

        assert [error["path"] for error in answer["errors"]] == ["input.modelVersion"]

    def test_an_ensemble_has_steps_already(self, marketplace: Marketplace) -> None:
        version = factories.version(
            marketplace.model, status=ModelVersionStatus.READY, released_at=None, format="ensemble"
        )

        answer = composed(marketplace.publisher, version, preprocessing={"image": IMAGE})

        assert [error["path"] for error in answer["errors"]] == ["input.modelVersion"]

    def test_a_tensor_of_the_step_must_not_have_the_name_of_one_that_stays(
        self, marketplace: Marketplace, digits: ModelVersion
    ) -> None:
        factories.tensor(digits, Direction.OUTPUT, "labels", position=1)

        answer = composed(marketplace.publisher, digits, postprocessing={"classification": {"tensor": "scores"}})

        assert [error["path"] for error in answer["errors"]] == ["input.postprocessing"]


@pytest.mark.parametrize(
    ("who", "outcome"),
    [
        ("developer", []),
        ("billing", ["PERMISSION_DENIED"]),
        ("viewer", ["PERMISSION_DENIED"]),
        ("other publisher", ["NOT_FOUND"]),
        ("subscriber", ["NOT_FOUND"]),
        ("stranger", ["NOT_FOUND"]),
    ],
)
def test_only_its_publishers_compose(
    marketplace: Marketplace, digits: ModelVersion, who: str, outcome: list[str]
) -> None:
    callers = {
        "developer": lambda: Caller(key=factories.api_key(marketplace.openlab, TenantRole.DEVELOPER)),
        "billing": lambda: Caller(user=factories.member(marketplace.openlab, TenantRole.BILLING)),
        "viewer": lambda: Caller(user=factories.member(marketplace.openlab, TenantRole.VIEWER)),
        "other publisher": lambda: Caller(user=factories.member(factories.tenant("otherlab", is_publisher=True))),
        "subscriber": lambda: marketplace.owner,
        "stranger": lambda: marketplace.stranger,
    }

    answer = composed(callers[who](), digits, preprocessing={"image": IMAGE})

    assert [error["code"] for error in answer["errors"]] == outcome
    assert (digits.model.versions.order_by("-number")[0] != digits) == (outcome == [])
