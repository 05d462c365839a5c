"""openlab/digits: a small convolutional network on MNIST, and the same network quantised to int8."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from jax import lax
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from scipy.ndimage import affine_transform

from demo.build import graphs, sources

EPOCHS = 30
BATCH_SIZE = 100
PEAK_RATE = 3e-3
Weights = dict[str, jax.Array]


def build(destination: Path) -> dict[str, float]:
    images, classes = sources.mnist_digits()
    held_out = np.arange(len(images)) % 5 == 0
    train, test, test_classes = images[~held_out], images[held_out], classes[held_out]

    weights = _trained(train, classes[~held_out])
    graphs.save(_graph(weights), destination / "v1.onnx")
    _quantise(destination / "v1.onnx", destination / "v2.onnx", train[::16])

    fp32, int8 = (_scores(destination / f"v{number}.onnx", test) for number in (1, 2))
    both_right = (fp32.argmax(axis=1) == test_classes) & (int8.argmax(axis=1) == test_classes)
    _write_samples(destination / "samples.json", test[both_right], test_classes[both_right])
    return {
        "trainImages": len(train),
        "testImages": len(test),
        "v1Accuracy": round(float((fp32.argmax(axis=1) == test_classes).mean()), 4),
        "v2Accuracy": round(float((int8.argmax(axis=1) == test_classes).mean()), 4),
        "agreement": round(float((fp32.argmax(axis=1) == int8.argmax(axis=1)).mean()), 4),
    }


def _trained(images: np.ndarray, classes: np.ndarray) -> Weights:
    """Adam (Kingma and Ba, 2015) on cross entropy, a one-cycle rate, every image distorted anew in every epoch."""
    random = np.random.default_rng(7)
    weights = _initial(random)
    zeros = {name: jnp.zeros_like(value) for name, value in weights.items()}
    state = weights, zeros, zeros
    steps = EPOCHS * len(images) // BATCH_SIZE

    @jax.jit
    def step(state, number, batch, target):
        weights, mean, square = state
        gradient = jax.grad(_loss)(weights, batch, target)
        rate = PEAK_RATE * jnp.minimum(number / (0.2 * steps), (steps - number) / (0.8 * steps))
        mean = {name: 0.9 * mean[name] + 0.1 * gradient[name] for name in weights}
        square = {name: 0.999 * square[name] + 0.001 * gradient[name] ** 2 for name in weights}
        corrected = {name: square[name] / (1 - 0.999 ** (number + 1)) for name in weights}
        weights = {
            name: weights[name] - rate * mean[name] / (1 - 0.9 ** (number + 1)) / (jnp.sqrt(corrected[name]) + 1e-8)
            for name in weights
        }
        return weights, mean, square

    number = 0
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        distorted = np.stack([_distorted(images[index, 0], random) for index in order])[:, None]
        for start in range(0, len(images), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            state = step(state, number, distorted[batch], classes[order[batch]])
            number += 1
    return state[0]


def _initial(random: np.random.Generator) -> Weights:
    """He initialisation; convolutions [out, in, height, width], dense layers [out, in], as ONNX has them."""
    shapes = {"conv1": (16, 1, 5, 5), "conv2": (32, 16, 3, 3), "dense1": (64, 1568), "dense2": (10, 64)}
    weights = {}
    for name, shape in shapes.items():
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}_weight"] = jnp.asarray(random.normal(0, deviation, shape), jnp.float32)
        weights[f"{name}_bias"] = jnp.zeros(shape[0], jnp.float32)
    return weights


def _logits(weights: Weights, image: jax.Array) -> jax.Array:
    hidden = image
    for name in ("conv1", "conv2"):
        convolved = lax.conv(hidden, weights[f"{name}_weight"], (1, 1), "SAME")
        hidden = jax.nn.relu(convolved + weights[f"{name}_bias"][:, None, None])
        hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    hidden = hidden.reshape(len(hidden), -1)
    hidden = jax.nn.relu(hidden @ weights["dense1_weight"].T + weights["dense1_bias"])
    return hidden @ weights["dense2_weight"].T + weights["dense2_bias"]


def _loss(weights: Weights, batch: jax.Array, target: jax.Array) -> jax.Array:
    scores = jax.nn.log_softmax(_logits(weights, batch))
    return -jnp.take_along_axis(scores, target[:, None], axis=1).mean()


def _distorted(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The digit as other hands and pens would put it: turned, slanted, scaled, moved, thinner or thicker."""
    angle, slant = random.uniform(-0.26, 0.26), random.uniform(-0.2, 0.2)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turned @ np.array([[1, 0], [slant, 1]]) @ np.diag(random.uniform(0.8, 1.25, 2))
    centre = np.array([13.5, 13.5])
    moved = affine_transform(image, matrix, centre - matrix @ (centre + random.uniform(-2.5, 2.5, 2)), order=1)
    return moved ** random.uniform(0.5, 1.6)


def _graph(weights: Weights) -> onnx.ModelProto:
    node = helper.make_node
    return graphs.model(
        "digits",
        [
            node("Conv", ["image", "conv1_weight", "conv1_bias"], ["convolved1"], kernel_shape=[5, 5], pads=[2] * 4),
            node("Relu", ["convolved1"], ["active1"]),
            node("MaxPool", ["active1"], ["pooled1"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["pooled1", "conv2_weight", "conv2_bias"], ["convolved2"], kernel_shape=[3, 3], pads=[1] * 4),
            node("Relu", ["convolved2"], ["active2"]),
            node("MaxPool", ["active2"], ["pooled2"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["pooled2"], ["flat"]),
            node("Gemm", ["flat", "dense1_weight", "dense1_bias"], ["dense1"], transB=1),
            node("Relu", ["dense1"], ["active3"]),
            node("Gemm", ["active3", "dense2_weight", "dense2_bias"], ["logits"], transB=1),
            node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        inputs=[graphs.tensor("image", graphs.FLOAT, graphs.BATCH, 1, 28, 28)],
        outputs=[graphs.tensor("scores", graphs.FLOAT, graphs.BATCH, 10)],
        initializers=graphs.constants(**{name: np.asarray(value) for name, value in weights.items()}),
    )


class _Calibration(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter(np.array_split(images, 5))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _quantise(fp32: Path, int8: Path, calibration: np.ndarray) -> None:
    """Static QDQ, weights int8 per channel. The softmax stays in floats: its scores are read by people."""
    quantize_static(
        fp32,
        int8,
        _Calibration(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Relu", "MaxPool", "Gemm"],
    )
    quantised = onnx.load(int8)
    quantised.ir_version = graphs.IR_VERSION
    graphs.save(quantised, int8)


def _scores(path: Path, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(["scores"], {"image": images})[0]


def _write_samples(path: Path, images: np.ndarray, classes: np.ndarray) -> None:
    """One held-out digit of each class, flat and row-major, for tests and for the page's "try a sample"."""
    samples = {
        str(digit): [round(float(value), 3) or 0 for value in images[classes == digit][0].ravel()]
        for digit in range(10)
    }
    path.write_text(json.dumps(samples, separators=(",", ":")) + "\n")
