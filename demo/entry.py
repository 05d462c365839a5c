"""One model of the demo: what `catalogue` says of it, its artefacts, and the plans on it."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from inference.ensembles import is_decoupled
from inference.formats import read_signature
from inference.tensors import TensorSpec
from marketplace.access import Principal
from marketplace.catalog.models import Direction, MLModel, Visibility
from marketplace.objects import store
from marketplace.publishing import entries, releases, versions
from marketplace.publishing.plans import create_plan
from marketplace.subscriptions.models import MeteredUnit

CATALOGUE = Path(__file__).parent / "catalogue"


class Offer(NamedTuple):
    name: str
    price: Decimal
    included_units: Decimal
    requests_per_second: int
    unit: str = MeteredUnit.CALL
    max_tokens_per_call: int | None = None


PLANS = (
    Offer("Trial", Decimal(0), Decimal(50), 1_000),
    Offer("Free", Decimal(0), Decimal(1_000), 10),
    Offer("Scale", Decimal(99), Decimal(1_000_000_000), 100_000),
)


@dataclass(frozen=True)
class Entry:
    """`described_as`: the folder of `catalogue`, where it has another name than the model.

    `made_by` writes the artefact to a path; without it, it lies in the folder.
    """

    name: str
    described_as: str | None = None
    plans: Sequence[Offer] = PLANS
    made_by: Callable[[Path], object] | None = None

    @property
    def folder(self) -> Path:
        return CATALOGUE / (self.described_as or self.name)

    def publish(self, publisher: Principal) -> None:
        """With every version, the one to be live and the plans on offer."""
        description: dict[str, Any] = json.loads((self.folder / "model.json").read_text(encoding="utf-8"))
        model = entries.create_model(
            publisher,
            name=self.name,
            display_name=description["displayName"],
            summary=description["summary"],
            card=(self.folder / "card.md").read_text(encoding="utf-8"),
            task=description["task"],
            tags=description["tags"],
            license=description["license"],
            visibility=Visibility.PUBLIC,
        )
        for offer in self.plans:
            create_plan(
                publisher,
                model_ref=model.ref,
                name=offer.name,
                price=offer.price,
                included_units=offer.included_units,
                requests_per_second=offer.requests_per_second,
                burst=offer.requests_per_second,
                unit=offer.unit,
                max_tokens_per_call=offer.max_tokens_per_call,
            )
        versions = [self._add(publisher, model, description, version) for version in description["versions"]]
        # Each goes live once, so that subscribers may name it; the live one last. This is ahead of the reconciler,
        # which loads them right after: `/readyz` waits for it, and until then nobody calls.
        live = versions.pop(description["live"] - 1)
        for version_id in [*versions, live]:
            releases.release(publisher, version_id=version_id)
            releases.promote_ready([version_id])

    def _add(self, publisher: Principal, model: MLModel, description: dict[str, Any], version: dict[str, Any]) -> UUID:
        with tempfile.TemporaryDirectory() as scratch:
            artifact = self.folder / version["artifact"]
            if self.made_by:
                artifact = Path(scratch) / version["artifact"]
                self.made_by(artifact)
            sha256, size = store().put(artifact)
            content = artifact.read_bytes()
        signature = read_signature(content, version["format"])
        return versions.add_version(
            publisher,
            model=model,
            sha256=sha256,
            size_bytes=size,
            signature=[
                *(_tensor(Direction.INPUT, spec, description["inputs"]) for spec in signature.inputs),
                *(_tensor(Direction.OUTPUT, spec, description["outputs"]) for spec in signature.outputs),
            ],
            format=version["format"],
            release_notes=version["releaseNotes"],
            decoupled=is_decoupled(content, version["format"]),
        ).pk


def _tensor(direction: Direction, spec: TensorSpec, described: list[dict[str, Any]]) -> versions.Tensor:
    (told,) = (tensor for tensor in described if tensor["name"] == spec.name)
    return versions.Tensor(
        direction=direction,
        name=spec.name,
        datatype=spec.datatype,
        shape=spec.shape,
        content_type=told["contentType"],
        labels=told["labels"],
        example=told.get("example"),
        example_shape=told.get("exampleShape"),
    )
