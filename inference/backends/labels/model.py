"""A Python-based Triton backend that reads class scores, as a `labels.json` says.

`scores` FP32[n, classes] -> `probabilities` FP32[n, classes], their softmax or the scores themselves; and of the `top`
largest, in order, the `labels` BYTES[n, top] and their `label_probabilities` FP32[n, top]. Of equal ones the first is
the larger, and what is not a number comes last. It runs inside Triton's Python and imports nothing of this project.
"""

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        """Its tensors depend on what it is told, so the configuration names them."""
        return config

    def initialize(self, args):
        with open(os.path.join(pb_utils.get_model_dir(), "labels.json"), encoding="utf-8") as file:
            told = json.load(file)
        self.softmax, self.top = told["softmax"], told["top"]
        self.labels = np.array([label.encode() for label in told["labels"]], dtype=np.object_)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            scores = pb_utils.get_input_tensor_by_name(request, "scores").as_numpy()
            wanted = request.requested_output_names()
            tensors = [pb_utils.Tensor(name, value) for name, value in self.read(scores) if name in wanted]
            return pb_utils.InferenceResponse(tensors)
        except Exception as error:  # one request's failure, whatever it is, must not become another's
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def read(self, scores):
        if len(self.labels) and scores.shape[1] != len(self.labels):
            raise ValueError(f"'scores' has {scores.shape[1]} classes, and there are {len(self.labels)} labels")
        probabilities = softmax(scores) if self.softmax else scores
        yield "probabilities", probabilities
        if len(self.labels):
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
            yield "labels", self.labels[order]
            yield "label_probabilities", np.take_along_axis(probabilities, order, axis=1)


def softmax(scores):
    with np.errstate(all="ignore"):  # of infinities, whose share is no number
        powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        return powers / powers.sum(axis=1, keepdims=True)
