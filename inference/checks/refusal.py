"""Why an artefact is refused, in the publisher's words, and what to change."""


class Refused(Exception):
    """`reason`: what is wrong with it; `advice`: what to do about it. A sentence or two each, English."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


class NeedsConversion(Exception):
    """`kind` ("saved-model", "tflite" or "onnx"): what the conversion worker makes an ONNX model of."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
