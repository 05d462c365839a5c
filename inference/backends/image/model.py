"""A Python-based Triton backend that turns pictures into numbers, as an `image.json` says.

`image` BYTES[n], each a PNG or JPEG, -> `pixels` FP32[n, channels, height, width] or [n, height, width, channels]:
upright, at the size wanted, (value * scale - mean) / std. It runs inside Triton's Python and imports nothing of this
project.

What a picture claims is checked before any of it is decoded: a PNG of 10 kB may ask for 10 GB, and a progressive JPEG
may have every pixel drawn over and over.
"""

import io
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, ImageOps

# Of one request.
MAX_IMAGES = 256
MAX_PIXELS = 25_000_000
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
# Of a JPEG: encoders write about ten.
MAX_SCANS = 50
START_OF_SCAN = b"\xff\xda"
# Pillow's names of what has 8 bits a channel or fewer.
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
FITS = {
    "STRETCH": lambda image, size: image.resize(size, Image.Resampling.BILINEAR),
    "CROP": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BILINEAR),
    "PAD": lambda image, size: ImageOps.pad(image, size, Image.Resampling.BILINEAR),
}
Image.MAX_IMAGE_PIXELS = None  # counted here, for all of a request


class InvalidImage(Exception):
    """The caller's own mistake, told to them."""


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        """Its tensors depend on what it is told, so the configuration names them."""
        return config

    def initialize(self, args):
        with open(os.path.join(pb_utils.get_model_dir(), "image.json"), encoding="utf-8") as file:
            told = json.load(file)
        self.size = told["width"], told["height"]
        self.mode = "L" if told["color"] == "GRAYSCALE" else "RGB"
        self.channels = slice(None, None, -1 if told["color"] == "BGR" else 1)
        self.channels_first = told["layout"] == "NCHW"
        self.fit = FITS[told["fit"]]
        self.scale, self.mean, self.std = (np.float32(told[name]) for name in ("scale", "mean", "std"))

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            contents = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
            return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", self.pixels(contents))])
        except InvalidImage as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        except Exception as error:  # one request's failure, whatever it is, must not become another's
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def pixels(self, contents):
        shape = (len(contents), self.size[1], self.size[0], self.mean.size)
        if len(contents) > MAX_IMAGES or np.prod(shape, dtype=float) * 4 > MAX_OUTPUT_BYTES:
            raise InvalidImage(f"'image' has {len(contents)} pictures, which are too many for one request")
        images = [opened(content, number) for number, content in enumerate(contents)]
        if sum(image.width * image.height for image in images) > MAX_PIXELS:
            raise InvalidImage(f"'image' has more than {MAX_PIXELS} pixels in all: make the pictures smaller")
        pixels = np.empty(shape, dtype=np.float32)
        for number, image in enumerate(images):
            fitted = self.fit(upright(image, number).convert(self.mode), self.size)
            pixels[number] = np.asarray(fitted).reshape(shape[1:])[:, :, self.channels]
            images[number] = None  # decoded pictures are large: one at a time
        pixels *= self.scale
        pixels -= self.mean
        pixels /= self.std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.channels_first else pixels


def opened(content, number):
    """Its header alone is read."""
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except Exception as error:  # Pillow has many kinds of failure for what is no picture
        raise InvalidImage(f"'image' number {number + 1} is not a PNG or JPEG picture") from error
    if image.mode not in MODES:
        raise InvalidImage(f"'image' number {number + 1} has more than 8 bits a channel")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise InvalidImage(f"'image' number {number + 1} is animated: send one picture")
    if image.format != "PNG" and content.count(START_OF_SCAN) > MAX_SCANS:
        raise InvalidImage(f"'image' number {number + 1} is a JPEG of more than {MAX_SCANS} scans")
    return image


def upright(image, number):
    """Decoded, and turned as the camera was held."""
    try:
        image.load()
    except Exception as error:
        raise InvalidImage(f"'image' number {number + 1} is cut off or damaged") from error
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # what else a camera noted, and how, is nobody's mistake
        return image
