"""Pictures as people send them, and as people should not."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def drawn(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise, the same every time."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(13).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), noise.tobytes())


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def digit(pixels: NDArray[np.float32]) -> bytes:
    """A PNG of pixels from 0 to 1."""
    return encoded(Image.fromarray((pixels * 255).round().astype(np.uint8), "L"))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A true PNG of one colour: every row of it is there, and unpacks."""
    packer = zlib.compressobj(9)
    rows = packer.compress(b"\0" * 1_000_000)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    return encoded(frames[0], save_all=True, append_images=frames[1:])


def scanned_over_and_over(scans: int = 1000) -> bytes:
    """A JPEG whose last scan is there a thousand times."""
    content = encoded(drawn(64, 64), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]
