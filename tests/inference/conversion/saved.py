"""Saves small TensorFlow models with what they answer: run by the Python that has TensorFlow, `saved.py <folder>`.

Each is `<name>/saved` (a SavedModel) or `<name>/model.tflite`, with `<name>/inputs.npz` and `<name>/outputs.npz`.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def main(folder: Path) -> None:
    tf.random.set_seed(19)
    random = np.random.default_rng(19)
    pictures = random.random((3, 12, 12, 3), dtype=np.float32)
    network = tf.keras.Sequential(
        [
            tf.keras.layers.Input((12, 12, 3), name="picture"),
            tf.keras.layers.Conv2D(8, 3, activation="relu"),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.MaxPool2D(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(5, activation="softmax", name="scores"),
        ]
    )
    saved = folder / "network" / "saved"
    network.export(saved, verbose=False)
    keep(folder / "network", {"picture": pictures}, {"output_0": network(pictures).numpy()})

    light = tf.lite.TFLiteConverter.from_saved_model(str(saved)).convert()
    (folder / "light").mkdir()
    (folder / "light" / "model.tflite").write_bytes(light)
    runner = tf.lite.Interpreter(model_content=light).get_signature_runner()
    keep(folder / "light", {"picture": pictures}, runner(picture=pictures))

    module = TwoSignatures()
    tf.saved_model.save(
        module,
        str(folder / "module" / "saved"),
        signatures={"serving_default": module.rows, "other": module.other},
    )
    rows = random.random((4, 6), dtype=np.float32)
    keep(folder / "module", {"rows": rows}, {name: value.numpy() for name, value in module.rows(rows).items()})

    unknown = NoCounterpart()
    tf.saved_model.save(unknown, str(folder / "unknown" / "saved"), signatures=unknown.call)
    python = CallsPython()
    tf.saved_model.save(python, str(folder / "python" / "saved"), signatures=python.call)


def keep(folder: Path, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "outputs.npz", **outputs)


class TwoSignatures(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.random.normal((6, 4)))

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="rows")])
    def rows(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        hidden = tf.nn.gelu(rows @ self.weights)
        return {"means": tf.reduce_mean(hidden, axis=1), "best": tf.argmax(hidden, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def other(self, number: tf.Tensor) -> tf.Tensor:
        return number


class NoCounterpart(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def call(self, number: tf.Tensor) -> tf.Tensor:
        return tf.math.lgamma(number)


class CallsPython(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def call(self, number: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda each: each, [number], tf.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
