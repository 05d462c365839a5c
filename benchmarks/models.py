"""Models that cost nothing, so that what is measured is the way to them; `publish` adds them to a demo's database."""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from demo import llm
from demo.build import babbler, minilm
from demo.entry import Entry
from marketplace.access import Principal, TenantRole
from marketplace.catalog.models import MLModel
from marketplace.subscriptions import actions as subscriptions
from marketplace.tenants.models import Tenant

from .upstream import GENERATOR, MODEL, NUMBER

EMBEDDER = MODEL.rpartition("/")[2]


def publish() -> None:
    """`openlab/constant` and `openlab/babbler`, live, with acme subscribed. The next reconciliation loads them."""
    openlab, acme = (Tenant.objects.get(slug=slug) for slug in ("openlab", "acme"))
    Entry(EMBEDDER, described_as="minilm", made_by=_write_embedder).publish(_owner(openlab))
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "babbler.zip")
        babbler.build(archive)
        llm.publish(_owner(openlab), archive, name=GENERATOR)
    for name in (EMBEDDER, GENERATOR):
        model = MLModel.objects.get(publisher=openlab, name=name)
        subscriptions.subscribe(_owner(acme), model_ref=model.ref, plan_id=model.plans.get(name="Scale").pk)


def _owner(tenant: Tenant) -> Principal:
    return Principal(
        tenant_id=tenant.pk, group_id=tenant.group_id, role=TenantRole.OWNER, is_publisher=tenant.is_publisher
    )


def _write_embedder(destination: Path) -> None:
    """minilm's signature; each number of each embedding is NUMBER, each text one token."""
    outputs = [minilm.EMBEDDING, minilm.TOKEN_COUNT]
    names = [tensor["name"] for tensor in outputs]
    step = {
        "name": "constant",
        "backend": "onnxruntime",
        "files": {"model.onnx": "constant/model.onnx"},
        "inputs": [minilm.TEXT],
        "outputs": outputs,
        "input_map": {"text": "text"},
        "output_map": {name: name for name in names},
    }
    ensemble = {"inputs": [minilm.TEXT], "outputs": outputs, "steps": [step]}
    with zipfile.ZipFile(destination, "w") as archive:
        archive.writestr("ensemble.json", json.dumps(ensemble))
        archive.writestr("constant/model.onnx", _graph())


def _graph() -> bytes:
    size = minilm.HIDDEN
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["text"], ["texts"]),
            helper.make_node("Concat", ["texts", "size"], ["shape"], axis=0),
            helper.make_node("Expand", ["number", "shape"], ["embedding"]),
            helper.make_node("Expand", ["one", "texts"], ["token_count"]),
        ],
        "constant",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["n"])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", size]),
            helper.make_tensor_value_info("token_count", TensorProto.INT64, ["n"]),
        ],
        [
            numpy_helper.from_array(np.array([size], np.int64), "size"),
            numpy_helper.from_array(np.array(NUMBER, np.float32), "number"),
            numpy_helper.from_array(np.array(1, np.int64), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
