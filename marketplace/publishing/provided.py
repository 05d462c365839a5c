"""The steps that the marketplace provides around a publisher's network, and what each can be told.

Each is a backend of ours (inference/backends) with one file of parameters, JSON in a fixed form. What runs is our code
alone. Nothing here needs Django: what a stranger has uploaded is read with it as well.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import ClassVar, Self

MAX_SIDE = 4096
MAX_ELEMENTS = 2**24  # 64 MiB of FP32, the largest tensor that is carried
SMALLEST = 2.0**-126  # that FP32 keeps in full
MAX_CLASSES = 65_536
MAX_LABEL_CHARACTERS = 255
MAX_TOP = 100
# Of a tokenizer's regular expressions, which run on every text without a limit: repeating a group, or going back to
# what one matched, can take forever on a short text, and none of the known tokenizers does either.
MAX_PATTERNS, MAX_PATTERN, MAX_REPEATS = 64, 4096, 3
ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
BACK, REPEATED_GROUP, REPEAT = re.compile(r"\\[1-9kg]"), re.compile(r"\)(?:[*+]|\{)"), re.compile(r"[*+]|\{\d*,\}")

# Name, datatype (Open Inference Protocol) and shape, -1 for a dynamic dimension.
Tensor = tuple[str, str, tuple[int, ...]]


class WrongParameter(ValueError):
    """`field` names it; the message says what is taken."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Layout(StrEnum):
    NCHW = "NCHW"
    NHWC = "NHWC"


class Color(StrEnum):
    RGB = "RGB"
    BGR = "BGR"
    GRAYSCALE = "GRAYSCALE"


class Fit(StrEnum):
    STRETCH = "STRETCH"
    CROP = "CROP"
    PAD = "PAD"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a step is told: the content of its file. `inputs` and `outputs` are the tensors that it has then."""

    BACKEND: ClassVar[str]
    FILE: ClassVar[str]

    @property
    def inputs(self) -> Sequence[Tensor]:
        raise NotImplementedError

    @property
    def outputs(self) -> Sequence[Tensor]:
        raise NotImplementedError

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Raises WrongParameter for what `write` would not write."""
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        names = {field.name for field in fields(cls)}
        if not isinstance(told, dict) or set(told) != names:
            raise WrongParameter(cls.FILE, f"a JSON object with exactly {', '.join(sorted(names))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})

    def write(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Image(Parameters):
    """`image` BYTES[n], each a PNG or JPEG -> `pixels` FP32, (value * scale - mean) / std for values of 0 to 255.

    STRETCH ignores the proportions, CROP takes the middle, PAD adds black. `mean` and `std` have a number per channel.
    """

    BACKEND: ClassVar[str] = "image"
    FILE: ClassVar[str] = "image.json"

    width: int
    height: int
    color: str
    layout: str
    fit: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _check("color", self.color in list(Color), f"one of {', '.join(Color)}")
        _check("layout", self.layout in list(Layout), f"one of {', '.join(Layout)}")
        _check("fit", self.fit in list(Fit), f"one of {', '.join(Fit)}")
        for name in ("width", "height"):
            _check(name, _is_whole(getattr(self, name), 1, MAX_SIDE), f"a whole number from 1 to {MAX_SIDE}")
        _check("width", self.width * self.height * self.channels <= MAX_ELEMENTS, f"at most {MAX_ELEMENTS} values")
        _check("scale", _is_number(self.scale) and self.scale >= SMALLEST, "a number above 0")
        for name in ("mean", "std"):
            values = getattr(self, name)
            right = isinstance(values, tuple) and len(values) == self.channels and all(map(_is_number, values))
            _check(name, right, f"{self.channels} numbers, one for each channel")
        _check("std", all(value >= SMALLEST for value in self.std), "numbers above 0")

    @property
    def channels(self) -> int:
        return 1 if self.color == Color.GRAYSCALE else 3

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [("image", "BYTES", (-1,))]

    @property
    def outputs(self) -> Sequence[Tensor]:
        size = (self.height, self.width)
        shape = (self.channels, *size) if self.layout == Layout.NCHW else (*size, self.channels)
        return [("pixels", "FP32", (-1, *shape))]


@dataclass(frozen=True, slots=True)
class Labels(Parameters):
    """`scores` FP32[n, classes] -> `probabilities`, and of the `top` largest `labels` and `label_probabilities`.

    Without `softmax` the scores count as probabilities already. Without labels there are probabilities alone.
    """

    BACKEND: ClassVar[str] = "labels"
    FILE: ClassVar[str] = "labels.json"

    softmax: bool
    labels: tuple[str, ...]
    top: int

    def __post_init__(self) -> None:
        _check("softmax", isinstance(self.softmax, bool), "true or false")
        few = isinstance(self.labels, tuple) and len(self.labels) <= MAX_CLASSES
        _check("labels", few and all(map(_is_label, self.labels)), f"at most {MAX_CLASSES} texts, none empty")
        _check("labels", bool(self.labels) or self.softmax, "labels, a softmax, or both")
        most = min(len(self.labels), MAX_TOP)
        _check("top", _is_whole(self.top, min(1, most), most), f"a whole number from {min(1, most)} to {most}")

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [("scores", "FP32", (-1, len(self.labels) or -1))]

    @property
    def outputs(self) -> Sequence[Tensor]:
        probabilities: Tensor = ("probabilities", "FP32", (-1, len(self.labels) or -1))
        if not self.labels:
            return [probabilities]
        shape = (-1, self.top)
        return [probabilities, ("labels", "BYTES", shape), ("label_probabilities", "FP32", shape)]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`text` BYTES[n] -> token ids and their mask, as a Hugging Face tokenizer.json says."""

    BACKEND: ClassVar[str] = "tokenizer"
    FILE: ClassVar[str] = "tokenizer.json"

    content: bytes

    def __post_init__(self) -> None:
        try:
            told = json.loads(self.content)
        except (ValueError, RecursionError):
            told = None
        _check("upload", isinstance(told, dict) and "model" in told, "the tokenizer.json of a Hugging Face model")
        patterns = list(_patterns(told))
        few = len(patterns) <= MAX_PATTERNS and all(map(_is_tame, patterns))
        _check("upload", few, "a tokenizer whose regular expressions repeat no group and refer back to none")

    @property
    def inputs(self) -> Sequence[Tensor]:
        return [("text", "BYTES", (-1,))]

    @property
    def outputs(self) -> Sequence[Tensor]:
        ids = (-1, -1)
        return [("input_ids", "INT64", ids), ("attention_mask", "INT64", ids), ("token_count", "INT64", (-1,))]

    def write(self) -> bytes:
        return self.content


BY_BACKEND: dict[str, type[Parameters]] = {step.BACKEND: step for step in (Image, Labels)}


def _check(field: str, right: bool, wanted: str) -> None:
    if not right:
        raise WrongParameter(field, wanted)


def _patterns(told: object) -> Iterator[str]:
    """Wherever a tokenizer.json may have one: {"Regex": …}."""
    waiting = [told]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("Regex"), str):
                yield value["Regex"]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _is_tame(pattern: str) -> bool:
    plain = ESCAPE_OR_CLASS.sub("x", pattern[: MAX_PATTERN + 1])
    return (
        len(pattern) <= MAX_PATTERN
        and not any(map(BACK.match, ESCAPE_OR_CLASS.findall(pattern)))
        and not REPEATED_GROUP.search(plain)
        and all(len(REPEAT.findall(part)) <= MAX_REPEATS for part in plain.split("|"))
    )


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    """One that is still a number as FP32."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**127


def _is_label(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARACTERS and value.isprintable()
