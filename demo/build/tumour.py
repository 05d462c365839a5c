"""openlab/tumour: logistic regression on the Wisconsin breast-cancer table, scaling inside the graph."""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import helper
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from demo.build import graphs


def build(destination: Path) -> dict[str, float]:
    table = load_breast_cancer()
    train, test, train_class, test_class = train_test_split(
        table.data, table.target, test_size=0.25, random_state=7, stratify=table.target
    )
    scaler = StandardScaler().fit(train)
    regression = LogisticRegression(C=0.3, max_iter=1000).fit(scaler.transform(train), train_class)

    # A two-class softmax over (-z/2, z/2) is the sigmoid of z.
    weights = np.concatenate([-regression.coef_, regression.coef_]).T / 2
    bias = np.concatenate([-regression.intercept_, regression.intercept_]) / 2
    graph = graphs.model(
        "tumour",
        [
            helper.make_node("Sub", ["features", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probability"], axis=-1),
        ],
        inputs=[graphs.tensor("features", graphs.FLOAT, graphs.BATCH, 30)],
        outputs=[graphs.tensor("probability", graphs.FLOAT, graphs.BATCH, 2)],
        initializers=graphs.constants(
            mean=scaler.mean_.astype(np.float32),
            deviation=scaler.scale_.astype(np.float32),
            weights=weights.astype(np.float32),
            bias=bias.astype(np.float32),
        ),
    )
    graphs.save(graph, destination / "v1.onnx")

    session = onnxruntime.InferenceSession(destination / "v1.onnx")
    (probability,) = session.run(None, {"features": test.astype(np.float32)})
    answer = probability.argmax(axis=1)
    return {
        "trainRows": len(train),
        "testRows": len(test),
        "accuracy": round(accuracy_score(test_class, answer), 4),
        "rocAuc": round(roc_auc_score(test_class, probability[:, 1]), 4),
        "malignantRecall": round(recall_score(test_class, answer, pos_label=0), 4),
    }
