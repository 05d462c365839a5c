"""Makes the models beside it: `pip install scikit-learn==1.9.1 skl2onnx==1.20.0`, then `python zipmap.py`.

As skl2onnx writes them, with a ZipMap at the end. iris.onnx: logistic regression on Fisher's irises, whose classes have
names. tumour.onnx: three trees on tumours, whose two classes have numbers.
"""

from pathlib import Path

from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

FOLDER = Path(__file__).parent
OPSET = 17

if __name__ == "__main__":
    irises, tumours = load_iris(), load_breast_cancer()
    names = irises.target_names[irises.target]
    for name, model, data, classes in (
        ("iris", LogisticRegression(max_iter=1000), irises.data, names),
        ("tumour", RandomForestClassifier(3, max_depth=3, random_state=1), tumours.data, tumours.target),
    ):
        numbers = data.astype("float32")
        written = to_onnx(model.fit(numbers, classes), numbers[:1], target_opset=OPSET)
        (FOLDER / f"{name}.onnx").write_bytes(written.SerializeToString())
