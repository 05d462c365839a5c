"""openlab/add: the smallest model that answers anything, for first calls and for measuring everything but the model."""

from pathlib import Path

from onnx import helper

from demo.build import graphs


def build(destination: Path) -> None:
    vectors = [graphs.tensor(name, graphs.FLOAT, "n") for name in ("A", "B")]
    total = graphs.tensor("SUM", graphs.FLOAT, "n")
    node = helper.make_node("Add", ["A", "B"], ["SUM"])
    graphs.save(graphs.model("add", [node], inputs=vectors, outputs=[total]), destination / "v1.onnx")
