"""Code that calls a model and runs when pasted, for each door and in more than one language."""

from typing import Any, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from frontend import tasks

from . import graphql, openai, triton
from .sample import WIDTH, Example, Place, Sample

__all__ = ["WIDTH", "Door", "Place", "Sample", "doors"]


class Door(NamedTuple):
    slug: str
    title: str | Promise
    hint: str | Promise
    samples: list[Sample]


def doors(place: Place, model: dict[str, Any]) -> list[Door]:
    """Those that the model can be called by, as `pages/model.graphql` has it; none unless each input has an example."""
    example = _example(model)
    if example is None:
        return []
    found = [
        Door("graphql", _("GraphQL"), _("All that this site can do, by one address."), graphql.samples(place, example)),
        Door(
            "rest",
            _("REST"),
            _("The Open Inference Protocol: clients for Triton and KServe work as they are."),
            triton.rest(place, example),
        ),
        Door("grpc", _("gRPC"), _("The same protocol in its fastest form."), triton.grpc(place, example)),
        Door("openai", _("OpenAI"), _("Tools made for OpenAI's API work as they are."), openai.samples(place, example)),
    ]
    return [door for door in found if door.samples]


def _example(model: dict[str, Any]) -> Example | None:
    live = model["liveVersion"]
    tensors = live["inputs"] if live else []
    if not tensors or any(tensor["example"] is None or tensor["exampleShape"] is None for tensor in tensors):
        return None
    inputs = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": [int(size) for size in tensor["exampleShape"]],
            "data": tensor["example"],
        }
        for tensor in tensors
    ]
    return Example(
        model["ref"], inputs, tasks.embeds(model, live), tasks.writes(model, live), chats="chat" in model["tags"]
    )
